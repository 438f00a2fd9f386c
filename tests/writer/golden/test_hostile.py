# SPDX-License-Identifier: MIT
"""Names out of a blob or a path cannot leave the comment or the string that they are put in."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luoser.abi.registry import layout
from luoser.writer.golden import c_array, kselftest, kunit
from luoser.writer.golden.source import comment_text
from tests.writer.golden.compiler import compile_all, needs_gcc, program, write_harness, write_kunit

FORMATS: dict[str, Callable[..., str]] = {"c": c_array, "kunit": kunit, "kselftest": kselftest}
FILE = layout("luo-file")
PIECES = [
    b"*/", b"/*", b"//", b"\\", b"\\\n", b"??/", b"??/\n", b"*??/\n/", b'"', b"'", b"\n", b"\r", b"\0", b"%s%n", b"\t",
    b"\x1b[2J", b"\x7f", b"\xff", b"\xc3\xa9", b"\xe2\x80\xae", b"\xe2\x80\xa8", b"#error", b"_Pragma",
    b"a", b" ", b"*", b"/", b"?", b"; int x", b"};", b"memfd-v2", b"0x41,", b"\\x2a", b"\\u202e",
]  # fmt: skip
ESCAPES = ["*/ #error", "/* ", "??/", "\\\n", "x\n#error", "\u202e", "\u2028", "\x00", "\udcff", "é*/", "\\"]

hostile = st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=24).map(lambda found: b"".join(found)[:48])
sources = st.text(max_size=90) | st.lists(st.sampled_from(ESCAPES), max_size=12).map("".join)


def made(kind: str, name: bytes, source: str, identifier: str = "golden") -> str:
    assert FILE is not None
    data = name.ljust(48, b"\0") + bytes(range(16))
    return FORMATS[kind](name=identifier, layout=FILE, data=data, source=source)


TOKEN = re.compile(
    r"""(?P<comment>/\*.*?\*/)|(?P<line>//[^\n]*)|(?P<string>"(?:\\.|[^"\\\n])*")|(?P<char>'(?:\\[0-7]{3}|[^'\\\n])')""",
    re.DOTALL,
)


def code(text: str) -> str:
    """What a compiler sees of a text: comments gone, the initialiser of the name made one word."""
    bare = TOKEN.sub(
        lambda found: {"comment": " ", "line": " ", "char": "CHAR"}.get(str(found.lastgroup), found[0]), text
    )
    bare = re.sub(r"0x[0-9a-f]{2},", "BYTE,", bare)
    bare = re.sub(r'\.compatible = (?:"[^"]*"|\{ *(?:CHAR,? *)*\}|\{\s*(?:CHAR,\s*)*\}),', "", bare)
    return "".join(bare.split()).replace(",}", "}")


@pytest.mark.parametrize("kind", FORMATS)
@given(name=hostile, source=sources)
def test_the_code_is_that_of_a_harmless_name(kind: str, name: bytes, source: str) -> None:
    text = made(kind, name, source)
    assert text.isascii() and set(map(ord, text)) - set(range(0x20, 0x7F)) == {0x09, 0x0A}
    assert code(text) == code(made(kind, b"memfd-v2", "spec.toml"))
    for found in TOKEN.finditer(text):
        if found.lastgroup == "comment":
            assert "/*" not in found[0][2:-2] and "??" not in found[0] and "\\\n" not in found[0]
        elif found.lastgroup == "line":
            assert found[0] == "// SPDX-License-Identifier: GPL-2.0-only OR MIT"


@given(sources | hostile)
def test_a_comment_stays_short_and_closed(text: str | bytes) -> None:
    said = comment_text(text, 40)
    assert len(said) <= 43
    assert said.isascii() and said.isprintable()
    assert "*" not in said and "?" not in said


def examples() -> list[tuple[bytes, str]]:
    """Each piece alone, and what hypothesis makes of them."""
    found = [(piece * 2, piece.decode("utf-8", "surrogateescape") * 2) for piece in PIECES]
    found += [(b"x" * 48, "x" * 300), (b"\xff" * 48, "\xff" * 48), (b"'" * 48, "'"), (b"abc\0def", "")]

    @settings(max_examples=20)
    @given(hostile, sources)
    def collect(name: bytes, source: str) -> None:
        found.append((name, source))

    collect()
    return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tests of all examples in one file that runs them one by one, suites and arrays in files of their own."""
    place = tmp_path_factory.mktemp("hostile")
    write_kunit(place)
    write_harness(place)
    assert FILE is not None
    for index, (name, source) in enumerate(examples()):
        (place / f"test_{index}.c").write_text(
            f"int main_{index}(void);\n#define main main_{index}\n" + made("kselftest", name, source)
        )
        (place / f"suite_{index}.c").write_text(made("kunit", name, source))
    declared = place / "linux" / "kho" / "abi"
    declared.mkdir(parents=True)
    (declared / "luo.h").write_text("struct luo_file_ser { char compatible[48]; u64 data; u64 token; };\n")
    return place


@needs_gcc
def test_every_suite_compiles(tree: Path) -> None:
    count = len(list(tree.glob("suite_*.c")))
    files = [f"suite_{index}.c" for index in range(count)]
    result = compile_all(tree, files, "-fsyntax-only")
    assert (result.returncode, result.stderr) == (0, "")


@needs_gcc
def test_every_name_is_the_bytes_that_it_was(tree: Path) -> None:
    count = len(list(tree.glob("test_*.c")))
    declared = "\n".join(f"int main_{index}(void);" for index in range(count))
    calls = "\n".join(f"\tfailed += main_{index}();" for index in range(count))
    (tree / "driver.c").write_text(
        f"{declared}\nint main(void)\n{{\n\tint failed = 0;\n{calls}\n\treturn failed;\n}}\n"
    )
    files = [*(f"test_{index}.c" for index in range(count)), "driver.c"]
    ran = subprocess.run([program(tree, files)], check=False, capture_output=True)
    assert ran.returncode == 0
    assert ran.stdout.count(b"# golden.luo_file_ser\nmemcmp(got.compatible, want->compatible, 48) = 0 ") == count
