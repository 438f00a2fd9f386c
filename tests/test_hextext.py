# SPDX-License-Identifier: MIT
"""Hex text as it is pasted: of hexdump, xxd, od and debuggers, with comments, plain digits."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import tracemalloc

import hexdump
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import luoser
from luoser.errors import FormatError
from luoser.hextext import parse_hex
from luoser.limits import Limits, limited
from tests.golden import CATALOGUE, GOLDEN
from tests.work import steps

blobs = st.binary(min_size=1, max_size=200) | st.binary(min_size=1, max_size=3).map(lambda some: some * 64)


def shown(byte: int) -> str:
    return chr(byte) if 0x20 <= byte < 0x7F else "."


def hexdump_c(data: bytes, *, end: bool = True) -> str:
    """As hexdump -C prints it, with `*` for repeated lines."""
    lines: list[str] = []
    last = None
    for offset in range(0, len(data), 16):
        part = data[offset : offset + 16]
        if part == last and len(part) == 16:
            if lines[-1] != "*":
                lines.append("*")
            continue
        last = part
        left, right = part[:8].hex(" "), part[8:].hex(" ")
        lines.append(f"{offset:08x}  {left:<23}  {right:<23}  |{''.join(map(shown, part))}|")
    if end:
        lines.append(f"{len(data):08x}")
    return "\n".join(lines) + "\n"


def xxd(data: bytes) -> str:
    lines = []
    for offset in range(0, len(data), 16):
        part = data[offset : offset + 16]
        words = " ".join(part[i : i + 2].hex() for i in range(0, len(part), 2))
        lines.append(f"{offset:08x}: {words:<39}  {''.join(map(shown, part))}")
    return "\n".join(lines) + "\n"


@given(blobs)
def test_hexdump(data: bytes) -> None:
    assert parse_hex(hexdump_c(data).encode()) == data


@given(blobs)
def test_hexdump_without_its_last_line(data: bytes) -> None:
    padded = data + b"\xa5" + bytes(-(len(data) + 1) % 16) + b"\x5a"  # the last line repeats nothing
    assert parse_hex(hexdump_c(padded, end=False).encode()) == padded


@given(blobs)
def test_xxd(data: bytes) -> None:
    assert parse_hex(xxd(data).encode()) == data


@given(blobs, st.sampled_from(["", " ", "\n"]), st.booleans())
def test_plain_digits(data: bytes, between: str, upper: bool) -> None:
    text = between.join(f"{byte:02X}" if upper else f"{byte:02x}" for byte in data)
    assert parse_hex(text.encode()) == data
    assert parse_hex(text.encode() + b"\r\n") == data


@pytest.mark.parametrize("name", [*CATALOGUE, "pci/pci-lu-v1-22-iov.bin"])
@pytest.mark.parametrize("tool", [["xxd"], ["xxd", "-p"], ["xxd", "-g1"], ["xxd", "-u"]], ids=" ".join)
def test_what_xxd_prints(tool: list[str], name: str) -> None:
    if shutil.which(tool[0]) is None:
        pytest.skip(f"no {tool[0]} here")
    text = subprocess.run([*tool, GOLDEN / name], check=True, capture_output=True).stdout
    assert parse_hex(text) == (GOLDEN / name).read_bytes()


@pytest.mark.parametrize("name", CATALOGUE)
def test_what_hexdump_prints(name: str) -> None:
    if shutil.which("hexdump") is None:
        pytest.skip("no hexdump here")
    text = subprocess.run(["hexdump", "-C", GOLDEN / name], check=True, capture_output=True).stdout
    assert parse_hex(text) == (GOLDEN / name).read_bytes()


def test_a_dump_with_comments() -> None:
    text = """
000000  02 00 00 00 00 00 00 00  01 05 00 00 01 00 00 00   count=2 pad | path 0x501 flags 1
000010  70 63 69 2d 6c 75 2d 73  74 75 62 00 00 00 00 00   "pci-lu-stub"
000020  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
000030  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
000040  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
000050  00 40 6f ac 01 00 00 00  08 04 00 00 02 00 00 00   driver_data 0x1ac6f4000 | path 0x408 flags 2
000060  70 63 69 65 70 6f 72 74  00 00 00 00 00 00 00 00   "pcieport"
000070  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
000080  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
000090  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
0000a0  00 00 00 00 00 00 00 00                            driver_data 0
"""
    assert parse_hex(text.encode()) == CATALOGUE["pci-folio.bin"]


def test_a_star_repeats_the_line_before_it() -> None:
    text = "00000000  01 02 03 04 05 06 07 08  09 0a 0b 0c 0d 0e 0f 10  |................|\n*\n00000040  ff  |.|\n"
    assert parse_hex(text.encode()) == bytes(range(1, 17)) * 4 + b"\xff"


def test_a_star_repeats_up_to_the_end() -> None:
    text = "00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n*\n00001000\n"
    assert parse_hex(text.encode()) == bytes(4096)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (b"0x01, 0x02,\n0x03\n", b"\1\2\3"),
        (b"\n\n 01 02 \n\n", b"\1\2"),
        (b"01 02 # be ef\n", b"\1\2"),
        (b"00000000: 0102 0304  ..zz\n00000004: 05  .\n", b"\1\2\3\4\5"),
        (b"DEADbeef", b"\xde\xad\xbe\xef"),
    ],
)
def test_small_things(text: bytes, want: bytes) -> None:
    assert parse_hex(text) == want


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"", "has no bytes"),
        (b"\n \n", "has no bytes"),
        (b"*\n", "expected an offset after it"),
        (b"zz", "line 1 has no hex digits; dump it in hex, such as with od"),
        (b"01 02\nhello\n", "line 2"),
        (b"00000010  01 02", "offset 0x10"),
        (b"00000000: 01 02\n00000010: 03", "line 2"),
        (b"00000000: 01 02\n00000001: 03", "offset 0x1"),
        (b"\xff\xfe0\x001\x00", "line 1"),
        (b"1 2 3", "line 1"),
    ],
)
def test_what_is_not_hex_text(text: bytes, word: str) -> None:
    with pytest.raises(FormatError, match=word):
        parse_hex(text)


def test_half_a_byte_is_an_error() -> None:
    with pytest.raises(FormatError):
        parse_hex(b"01 02 0")


def test_an_offset_of_many_terabytes_costs_nothing() -> None:
    line = b"00000000  01 02 03 04 05 06 07 08  09 0a 0b 0c 0d 0e 0f 10\n"
    with pytest.raises(FormatError):
        parse_hex(line + b"ffffffffffff0  01\n")


@given(st.binary(max_size=200) | st.text(alphabet="0123456789abcdef *:|\n\tx", max_size=200).map(str.encode))
def test_any_bytes_give_bytes_or_a_format_error(text: bytes) -> None:
    try:
        assert parse_hex(text)
    except FormatError as error:
        assert str(error).isprintable()


def test_star_in_hex_text_cannot_ask_for_more_than_a_list_has() -> None:
    with pytest.raises(luoser.errors.FormatError):
        parse_hex(b"00000000  " + b"00 " * 16 + b"\n*\n0080000000:\n")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"00\n" * 65, "65 lines: too many"),
        (b"00\v" * 65, "65 lines: too many"),
        (b"00 " * 1025, "line 1: too many bytes"),
        (b"00 " * 16 * 33 + b"\n" + b"00 " * 16 * 32, "line 2: too many bytes"),
    ],
    ids=["lines", "other ends of lines", "words", "words of all lines"],
)
def test_a_text_of_too_much_is_refused(text: bytes, word: str) -> None:
    """Each word takes much more memory than its digits."""
    with limited(Limits(hex_size=1024)), pytest.raises(FormatError, match=rf"{word}; .*hex_size=N"):
        parse_hex(text)


def test_star_that_stands_for_much_is_refused() -> None:
    text = b"00000000  " + b"00 " * 16 + b"\n*\n0ffffff0\n"
    with steps(20_000), pytest.raises(FormatError, match=r"line 3.*--limit hex_size=N"):
        parse_hex(text)
    with limited(Limits(hex_size=1 << 28)):
        assert len(parse_hex(text)) == 0xFFFFFF0


@pytest.mark.parametrize("form", ["C", "xxd"])
def test_a_long_text_takes_little_memory_for_each_byte(form: str) -> None:
    data = random.Random(7).randbytes(64 << 10)
    rows = [(place, data[place : place + 16]) for place in range(0, len(data), 16)]
    if form == "C":
        text = "".join(f"{place:08x}  {row[:8].hex(' ')}  {row[8:].hex(' ')}  |{'.' * 16}|\n" for place, row in rows)
    else:
        text = "".join(f"{place:08x}: {row.hex(' ', -2)}  {'.' * 16}\n" for place, row in rows)
    parse_hex(text.encode())  # the words that there are
    tracemalloc.start()
    try:
        assert parse_hex(text.encode()) == data
        assert tracemalloc.get_traced_memory()[1] < 55 * len(data)
    finally:
        tracemalloc.stop()


FOLIO = bytes.fromhex(
    "02000000000000000105000001000000 00406fac010000000804000002000000 00000000000000000000000000000000"
)

PASTED = {
    "kdb md": """\
0xffff888001a97000 0000000000000002 0000000100000501   ................
0xffff888001a97010 00000001ac6f4000 0000000200000408   .@o.............
0xffff888001a97020 0000000000000000 0000000000000000   ................
""",
    "kdb mdp": """\
phys 0x0000000001a97000 0000000000000002 0000000100000501   ................
phys 0x0000000001a97010 00000001ac6f4000 0000000200000408   .@o.............
phys 0x0000000001a97020 0000000000000000 0000000000000000   ................
""",
    "kdb md4": """\
0xffff888001a97000 00000002 00000000 00000501 00000001   ................
0xffff888001a97010 ac6f4000 00000001 00000408 00000002   .@o.............
0xffff888001a97020 00000000 00000000 00000000 00000000   ................
""",
    "kdb, zeros suppressed": """\
0xffff888001a97000 0000000000000002 0000000100000501   ................
0xffff888001a97010 00000001ac6f4000 0000000200000408   .@o.............
0xffff888001a97020-0xffff888001a9702f zero suppressed
""",
    "gdb x/xg": """\
0xffff888001a97000:\t0x0000000000000002\t0x0000000100000501
0xffff888001a97010 <pci_ser+16>:\t0x00000001ac6f4000\t0x0000000200000408
0xffff888001a97020:\t0x0000000000000000\t0x0000000000000000
""",
    "gdb x/xw": """\
0xffff888001a97000:\t0x00000002\t0x00000000\t0x00000501\t0x00000001
0xffff888001a97010:\t0xac6f4000\t0x00000001\t0x00000408\t0x00000002
0xffff888001a97020:\t0x00000000\t0x00000000\t0x00000000\t0x00000000
""",
    "gdb x/xb": "".join(
        f"{0x1A97000 + place:#x}:\t" + "\t".join(f"{byte:#04x}" for byte in FOLIO[place : place + 8]) + "\n"
        for place in range(0, 48, 8)
    ),
    "crash rd": """\
ffff888001a97000:  0000000000000002 0000000100000501   ................
ffff888001a97010:  00000001ac6f4000 0000000200000408   .@o.............
ffff888001a97020:  0000000000000000 0000000000000000   ................
""",
    "crash rd -x -32 -p": """\
         1a97000:  00000002 00000000 00000501 00000001
         1a97010:  ac6f4000 00000001 00000408 00000002
         1a97020:  00000000 00000000 00000000 00000000
""",
    "crash rd -8 -p": "".join(
        f"{0x1A97000 + place:16x}:  {FOLIO[place : place + 16].hex(' ')}   \n" for place in range(0, 48, 16)
    ),
    "crash rd, with its prompts": """\
crash> rd -p -64 0x1a97000 6
         1a97000:  0000000000000002 0000000100000501   ................
         1a97010:  00000001ac6f4000 0000000200000408   .@o.............
         1a97020:  0000000000000000 0000000000000000   ................
crash> """,
    "gdb x/xg, with its prompts": """\
(gdb) x/6xg pci_ser
0xffff888001a97000:\t0x0000000000000002\t0x0000000100000501
0xffff888001a97010 <pci_ser+16>:\t0x00000001ac6f4000\t0x0000000200000408
0xffff888001a97020:\t0x0000000000000000\t0x0000000000000000
(gdb)
""",
    "QEMU xp": """\
0000000001a97000: 0x0000000000000002 0x0000000100000501
0000000001a97010: 0x00000001ac6f4000 0x0000000200000408
0000000001a97020: 0x0000000000000000 0x0000000000000000
""",
    "xxd -e": """\
00000000: 00000002 00000000 00000501 00000001  ................
00000010: ac6f4000 00000001 00000408 00000002  .@o.............
00000020: 00000000 00000000 00000000 00000000  ................
""",
    "the package hexdump": hexdump.hexdump(FOLIO, result="return"),
}


@pytest.mark.parametrize("tool", PASTED)
def test_what_a_debugger_prints(tool: str) -> None:
    assert parse_hex(PASTED[tool].encode()) == FOLIO


@pytest.mark.parametrize("tool", [name for name in PASTED if re.search("md|rd|xg", name) and "prompts" not in name])
def test_a_line_that_is_lost_is_noticed(tool: str) -> None:
    lines = PASTED[tool].splitlines(keepends=True)
    with pytest.raises(FormatError, match="expected offset"):
        parse_hex("".join([lines[0], *lines[2:]]).encode())


IN_COLUMNS = {
    "rd -d": "         1a97000:  12687951               0 \n",
    "rd -d, negative": "         1a97000:  1268795143230591              -1 \n",
    "rd -D": "         1a97000:      1268795143230591     1268795143230591 \n",
    "rd -S": "ffff888001a97000:  ffff888001a97010 [ffff888001a97000:kmalloc-64]\n",
}
"""Rows of crash of which the first number reads as hex, too, with something else after it."""


@pytest.mark.parametrize("kind", IN_COLUMNS)
def test_a_row_is_not_cut_where_something_else_than_hex_begins(kind: str) -> None:
    with pytest.raises(FormatError, match="numbers in columns, or something in place of one"):
        parse_hex(IN_COLUMNS[kind].encode())


def test_an_ascii_column_of_digits_is_no_number() -> None:
    row = "         1a97000:  3736353433323130                    01234567\n"
    assert parse_hex(row.encode()) == b"01234567"


TOOLS = [
    *(
        "od",
        "od -b",
        "od -o",
        "od -x",
        "od -to4",
        "od -to8",
        "od -tx1",
        "od -Ad -tx1",
        "od -Ax -tx1z",
        "od -An -v -tx1",
    ),
    *("od -Ax -tx2", "od -Ax -tx4", "od -tx8", "od -tx8z -w8", "od -v -tx4 -w32"),
    *("hexdump", "hexdump -x", "hexdump -b", "hexdump -o", "hexdump -C", "xxd", "xxd -g1", "xxd -g8", "xxd -e"),
    *("xxd -e -g8", "xxd -p", "xxd -u", "xxd -c8", "od -td1", "od -tu1", "od -tu2", "od -c", "od -a", "hexdump -d"),
    *("hexdump -c", "xxd -b", "od -An -tx4", "od -An -tx8"),
]


@pytest.mark.parametrize("tool", TOOLS)
@settings(deadline=None, max_examples=30)
@given(data=blobs | st.text("ab \x00f0", min_size=1, max_size=40).map(str.encode))
def test_tools_are_read_right_or_refused(tool: str, data: bytes) -> None:
    """A last word that is not whole is filled with zeros where the tool does not say how long it is."""
    name, *options = tool.split()
    if shutil.which(name) is None:
        pytest.skip(f"no {name} here")
    text = subprocess.run([name, *options, "/dev/stdin"], input=data, check=True, capture_output=True).stdout
    try:
        read = parse_hex(text)
    except FormatError:
        return
    assert read[: len(data)] == data
    assert not any(read[len(data) :])
    assert len(read) - len(data) < 8


@pytest.mark.parametrize(
    "tool", [name for name in TOOLS if not set(name.split()) & {"-td1", "-tu1", "-tu2", "-c", "-a"}]
)
def test_tools_are_read(tool: str) -> None:
    name, *options = tool.split()
    if shutil.which(name) is None:
        pytest.skip(f"no {name} here")
    data = FOLIO + b"abc" + bytes(range(13))
    text = subprocess.run([name, *options, "/dev/stdin"], input=data, check=True, capture_output=True).stdout
    if tool in ("hexdump -d", "xxd -b", "od -An -tx4", "od -An -tx8"):
        with pytest.raises(FormatError, match=r"--word|od -Ax"):
            parse_hex(text)
    else:
        assert parse_hex(text) == data


@pytest.mark.parametrize("word", [2, 4, 8])
def test_words_as_asked(word: int) -> None:
    text = " ".join(
        f"{int.from_bytes(FOLIO[place : place + word], 'little'):0{2 * word}x}" for place in range(0, 48, word)
    )
    with pytest.raises(FormatError, match="--word 2, 4 or 8"):
        parse_hex(text.encode())
    assert parse_hex(text.encode(), word=word) == FOLIO
    assert parse_hex(text.encode(), word=1) != FOLIO


def test_numbers_without_leading_zeros_need_their_width() -> None:
    text = b"{0x2, 0x100000501}"[1:-1]
    with pytest.raises(FormatError, match="--word"):
        parse_hex(text)
    assert parse_hex(text, word=8) == FOLIO[:16]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"00000000: 02000000 00000000  ........", "byte order of words such as '02000000'"),
        (b" 0000000000000002\n", "byte order"),
        (b"00000000: 6162 6364  badc\n00000004: 3132  12\n", "another byte order"),
        (b"0000000 0000 0000 0000 0000 0000 0000 0000 0000\n*\n0000060\n", "hex, octal or decimal"),
        (b"0000000   97   98\n", "numbers in columns"),
        (b"1a97000:  00000002 0000\n", "expected words of 8 digits"),
    ],
)
def test_what_is_not_known_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse_hex(text)
