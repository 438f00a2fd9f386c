# SPDX-License-Identifier: MIT
"""The example project of docs/examples: with this tree, and as its users have it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from luoser.testing import assert_sound
from luoser.testing.plugin import ImageMaker
from tests import real
from tests.e2e.guest import initramfs
from tests.e2e.kernels import NoKernel, kernel
from tests.testing.test_testing import run

EXAMPLE = real.ROOT / "docs/examples/kernel-test"
ALONE = "7 passed, 1 skipped"
"""Without a kernel."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLE, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__", ".*")))


def test_the_example_passes(project: Path) -> None:
    result = run(project, "-rs", KERNEL="", INITRD="")
    assert result.returncode == 0 and ALONE in result.stdout, result.stdout
    assert "KERNEL and INITRD name no kernel" in result.stdout


def test_its_page_shows_it() -> None:
    """What the page quotes is in the files."""
    text = (real.ROOT / "docs/howto/pytest.md").read_text()
    files = "".join(place.read_text() for place in sorted(EXAMPLE.rglob("*.py")))
    blocks = [block.split("```")[0] for block in text.split("```python\n")[1:]]
    assert len(blocks) >= 2 and all(block in files for block in blocks)


def test_the_message_of_its_page_is_that_of_a_failure(luoser_image: ImageMaker) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_sound(luoser_image(EXAMPLE / "tests/handover.toml", mutate="LUO016"))
    shown = re.findall(r"(?m)^E       (.*)$", (real.ROOT / "docs/howto/pytest.md").read_text())
    first, *rest = str(caught.value).splitlines()
    assert shown[0].endswith(first.split("/luoser-1.elf")[1]) and shown[1:] == rest[: len(shown) - 1]


@pytest.mark.slow
def test_it_passes_and_is_typed_in_an_environment_of_its_own(project: Path, tmp_path: Path) -> None:
    """Luoser is a wheel there. What it depends on is that of this environment: nothing is fetched for it."""
    wheels, place, source = tmp_path / "wheels", tmp_path / "venv", tmp_path / "source"
    for name in ("luoser", "scripts", "share"):
        shutil.copytree(real.ROOT / name, source / name)
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(real.ROOT / name, source)
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(wheels), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(place, with_pip=False)
    python, (wheel,) = place / "bin/python", wheels.glob("*.whl")
    install = ["install", "--quiet", "--no-index", "--no-deps", "--disable-pip-version-check", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install], check=True)
    (own,) = place.glob("lib/python*/site-packages")
    (own / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "KERNEL", "INITRD")}
    result = subprocess.run(
        [python, "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=project, env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0 and ALONE in result.stdout and "luoser-" in result.stdout, result.stdout
    where = [python, "-c", "import luoser.testing; print(luoser.testing.__file__)"]
    assert subprocess.check_output(where, cwd=project, env=variables, text=True).startswith(str(own))
    types = [sys.executable, "-m", "mypy", "--python-executable", str(python), "--cache-dir", str(tmp_path), "tests"]
    result = subprocess.run(types, cwd=project, env=variables, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.slow
def test_it_looks_at_a_live_update(project: Path, tmp_path: Path) -> None:
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed")
    try:
        found = kernel("7.3", build=False)
        (tmp_path / "initrd").write_bytes(initramfs(found, kexecs=1))
    except NoKernel as reason:
        pytest.skip(str(reason))
    words = "kho_scratch=32M,64M,16M sessions=3 files=4"
    result = run(project, KERNEL=str(found.image), INITRD=str(tmp_path / "initrd"), WORDS=words)
    assert result.returncode == 0 and "8 passed" in result.stdout, result.stdout
