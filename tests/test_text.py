# SPDX-License-Identifier: MIT
"""Text from a dump before it reaches a person."""

from __future__ import annotations

import re
import unicodedata

import hexdump
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoser.text import (
    bdf_text,
    bytes_text,
    counted,
    decode_name,
    did_you_mean,
    human_size,
    parse_number,
    rounded_size,
    safe_text,
)
from tests.work import steps

any_text = st.text(
    alphabet=st.one_of(
        st.characters(),
        st.characters(categories=["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs", "Mn", "Mc", "Me"]),
        st.sampled_from("\\\x1b[]{}<>\u202e\u2066\u200b\udc80\udcff xu0"),
    ),
    max_size=40,
)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("vm-web-01", "vm-web-01"),
        ("", ""),
        ("two words", "two words"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x07\x08\x7f\x9b31m", r"\x07\x08\x7f\x9b31m"),
        ("a\nb\r\tc", r"a\x0ab\x0d\x09c"),
        ("\u2028\u2029\x85", r"\u2028\u2029\x85"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("\u200b\u200d\ufeff\xad", r"\u200b\u200d\ufeff\xad"),
        ("\ue000\U000f0000\u0378", r"\ue000\U000f0000\u0378"),
        ("\U000e0041", r"\U000e0041"),
        ("a\\b", r"a\\b"),
        (r"\x1b", r"\\x1b"),
        ("\udc80\udcff", r"\x80\xff"),
        ("\ud800", r"\ud800"),
        ("größe ✓ 東京", "größe ✓ 東京"),
        ("[bold red]x[/] :smile: <b>&amp;</b>", "[bold red]x[/] :smile: <b>&amp;</b>"),
        ("\xa0no-break", r"\xa0no-break"),
    ],
)
def test_safe_text(text: str, want: str) -> None:
    assert safe_text(text) == want


def test_bytes_are_taken_as_utf8_up_to_the_first_nul() -> None:
    assert safe_text("größe".encode()) == "größe"
    assert safe_text(b"abc\0def") == "abc"
    assert safe_text(b"\xff\x1b[2J\xc3") == r"\xff\x1b[2J\xc3"
    assert decode_name(b"\xff\x00rest") == "\udcff"
    assert decode_name(b"\xfe\xff").encode("utf-8", "surrogateescape") == b"\xfe\xff"


@given(any_text)
def test_the_result_is_one_printable_line(text: str) -> None:
    safe = safe_text(text)
    assert safe.isprintable()
    assert len(safe.splitlines()) <= 1
    assert not any(unicodedata.category(character).startswith("C") for character in safe)
    assert not any(unicodedata.bidirectional(character) in {"RLO", "LRO", "RLE", "LRE", "PDF"} for character in safe)
    safe.encode()


@given(st.binary(max_size=40))
def test_bytes_too(raw: bytes) -> None:
    safe = safe_text(raw)
    assert safe.isprintable()
    assert safe.encode().isascii() or raw.decode("utf-8", "surrogateescape")


def plain(safe: str) -> str:
    """What a safe text stands for; bytes that were no UTF-8 and characters below 256 are told apart by UTF-8."""

    def one(match: re.Match[str]) -> str:
        word = match.group()
        return "\\" if word == "\\\\" else chr(int(word[2:], 16))

    return re.sub(r"\\\\|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8}", one, safe)


@given(any_text.filter(lambda text: not any("\udc80" <= character <= "\udcff" for character in text)))
def test_the_result_says_what_the_text_was(text: str) -> None:
    assert plain(safe_text(text)) == text


@given(any_text, any_text)
def test_two_texts_never_look_alike(one: str, other: str) -> None:
    """Except for a byte that was no UTF-8 and the C1 control of that number."""

    def folded(text: str) -> str:
        return "".join(chr(ord(c) - 0xDC00) if "\udc80" <= c <= "\udcff" else c for c in text)

    if safe_text(one) == safe_text(other):
        assert folded(one) == folded(other)


@pytest.mark.parametrize(
    ("domain", "bdf", "want"),
    [
        (0, 0x4100, "0000:41:00.0"),
        (0x10000, 0xFFFF, "10000:ff:1f.7"),
        (1, 0x0501, "0001:05:00.1"),
    ],
)
def test_bdf_text(domain: int, bdf: int, want: str) -> None:
    assert bdf_text(domain, bdf) == want


@pytest.mark.parametrize(
    ("size", "want"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (0x1234, "4660 bytes"),
        (4096, "4 KiB"),
        (4 << 20, "4 MiB"),
        (3 << 30, "3 GiB"),
        (2 << 40, "2 TiB"),
    ],
)
def test_human_size(size: int, want: str) -> None:
    assert human_size(size) == want


def test_parse_number() -> None:
    assert [parse_number(text) for text in ("0x617000", " 4096 ", "0b11", "0")] == [0x617000, 4096, 3, 0]
    for text in ("-1", "", "x", "0x", "1.5", "617000h", "\x1b"):
        with pytest.raises(ValueError, match=r"."):
            parse_number(text)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1 << 30, "1 GiB"),
        (82444288, "78.6 MiB"),
        (1023 << 10, "1023 KiB"),
    ],
)
def test_a_rounded_size(size: int, shown: str) -> None:
    assert rounded_size(size) == shown


@given(st.binary(max_size=40))
def test_bytes_are_those_of_the_package(data: bytes) -> None:
    assert bytes_text(data) == data.hex(" ") == hexdump.dump(data).lower()


@pytest.mark.parametrize(
    ("name", "shown"),
    [("inspct", "; did you mean inspect?"), ("INSPECT", "; did you mean inspect?"), ("zzz", "")],
)
def test_what_is_meant(name: str, shown: str) -> None:
    assert did_you_mean(name, ["inspect", "pci"]) == shown


def test_counted_things() -> None:
    assert [counted(number, "file") for number in (0, 1, 2)] == ["0 files", "1 file", "2 files"]


def test_a_text_of_many_odd_characters_is_quick() -> None:
    with steps(20_000):
        for _ in range(50):
            safe_text("\x1b\u202e" * 128)
