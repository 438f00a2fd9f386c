# SPDX-License-Identifier: MIT
"""Types from files: a bare blob, ELF files with BTF or DWARF, modules; files that are neither."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luoser.errors import SourceError
from luoser.kernel.files import read_types
from luoser.limits import Limits, limited
from tests.kernel.compiled import FILE, btf, dwarf
from tests.kernel.made import Blob
from tests.kernel.test_btf import module


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_bare_blob(tmp_path: Path) -> None:
    blob = Blob()
    blob.structure(b"s", 4)
    assert read_types(written(tmp_path / "btf", blob.data())).named("s") == [1]


def test_types_of_more_bytes_than_the_limit_are_refused(tmp_path: Path) -> None:
    blob = Blob()
    blob.structure(b"s", 4)
    data = blob.data()
    made = dwarf(tmp_path, "int nothing;\n")
    bare = written(tmp_path / "btf", data)
    subprocess.run(["objcopy", "--add-section", f".BTF={bare}", made], check=True)
    for place in (bare, made):
        with limited(Limits(type_bytes=len(data))):
            assert read_types(place).named("s") == [1]
        with limited(Limits(type_bytes=len(data) - 1)), pytest.raises(SourceError, match="--limit type_bytes=N"):
            read_types(place)


def test_types_are_counted(tmp_path: Path) -> None:
    blob = Blob()
    for _ in range(3):
        blob.structure(b"s", 4)
    for place in (written(tmp_path / "btf", blob.data()), dwarf(tmp_path, FILE)):
        with limited(Limits(types=2)), pytest.raises(SourceError, match="more than 2 types; --limit types=N"):
            read_types(place)


def test_an_object_with_btf_and_one_with_dwarf(tmp_path: Path) -> None:
    without = read_types(dwarf(tmp_path, FILE))
    assert without.where.startswith("DWARF of ")
    types = read_types(btf(tmp_path, FILE))
    assert types.where.startswith("BTF of ")
    for each in (types, without):
        number = each.struct("luo_file_ser")
        assert number is not None
        assert [(name, place.offset) for name, place in each.members(number)] == [
            ("compatible", 0),
            ("data", 48),
            ("token", 56),
        ]


def test_a_module_and_its_kernel(tmp_path: Path) -> None:
    base, split = (written(tmp_path / name, made.data()) for name, made in zip(("base", "mod"), module(), strict=True))
    assert read_types(split, base=base).named("module") == [3]
    with pytest.raises(SourceError, match="types of a module; give those of its kernel"):
        read_types(split)


def test_a_base_that_is_no_btf_is_refused(tmp_path: Path) -> None:
    """A module's types have other numbers without their base: nothing must be read with them."""
    split = written(tmp_path / "mod", module()[1].data())
    with pytest.raises(SourceError, match="expected BTF: types of a module count from"):
        read_types(split, base=dwarf(tmp_path, FILE))


def test_a_module_with_a_base_of_its_own(tmp_path: Path) -> None:
    """Out-of-tree modules have .BTF.base, which their types count from."""
    base, split = module()
    made = dwarf(tmp_path, "int nothing;\n")
    for name, blob in ((".BTF.base", base), (".BTF", split)):
        data = written(tmp_path / name, blob.data())
        subprocess.run(["objcopy", "--add-section", f"{name}={data}", made], check=True)
    assert read_types(made).named("module") == [3]
    other = Blob()
    other.integer(b"wrong", 1)
    assert read_types(made, base=written(tmp_path / "other", other.data())).named("module") == [3]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected BTF, or an ELF file with BTF or DWARF, found nothing"),
        (b"hello", "expected BTF, or an ELF file with BTF or DWARF, found 68 65 6c 6c"),
        (b"\x9f\xeb", "expected BTF"),
        (b"\x9f\xeb\1\0" + b"\xff" * 40, "cut short"),
        (b"\x7fELF\x01\x01" + bytes(60), "expected BTF"),
        (b"\x7fELF\x02\x01" + bytes(60), "damaged|neither BTF nor DWARF"),
    ],
)
def test_files_that_have_no_types(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=message):
        read_types(written(tmp_path / "file", data))


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="Is a directory"):
        read_types(tmp_path)
    with pytest.raises(SourceError, match="No such file"):
        read_types(tmp_path / "none")


@pytest.mark.parametrize("place", [40, 24 + 64, 32 + 64])
@pytest.mark.parametrize("value", [(1 << 64) - 1, 1 << 63, (1 << 63) - 1, 1 << 40])
def test_places_beyond_the_end(place: int, value: int, tmp_path: Path) -> None:
    """e_shoff, and offset and size of the section of names and of .BTF."""
    names = b"\0.BTF\0"
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 1, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, 1, 0)
    section = struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, 128, len(names), 0, 0, 1, 0)
    data = bytearray(head + section + names)
    struct.pack_into("<Q", data, place, value)
    with pytest.raises(SourceError):
        read_types(written(tmp_path / "file", bytes(data)))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return btf(tmp_path_factory.mktemp("object"), FILE).read_bytes()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8), st.data())
def test_no_damage_breaks_it(
    compiled: bytes, tmp_path: Path, damage: list[tuple[float, int]], data: st.DataObject
) -> None:
    changed = bytearray(compiled)
    for place, value in damage:
        changed[int(place * len(changed))] = value
    if data.draw(st.booleans()):  # then DWARF is read
        changed = bytearray(changed.replace(b".BTF\0", b".BTG\0"))
    try:
        types = read_types(written(tmp_path / "file", bytes(changed)))
    except SourceError as error:
        assert str(error)
    else:
        assert all(isinstance(name, str) for _, name in types.structs())
