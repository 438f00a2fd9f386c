# SPDX-License-Identifier: MIT
"""Descriptions as text, and bare blobs of every layout there and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from luoser.errors import UsageError
from luoser.reader.blob import decode
from luoser.state import blob_document
from luoser.writer.spec import blob_bytes, is_blob, parse_spec
from tests import golden, real

TYPES = {
    "kexec-metadata.bin": "kexec-metadata-v1",
    "kho-chunk-512.bin": None,
    "kho-chunk-page.bin": None,
    "kho-v4-root.dtb": "kho-v4",
    "luo-flb-page.bin": "luo-flb-v1",
    "luo-ser.bin": "luo-v5",
    "luo-session-block.bin": "kho-block-sessions",
    "memfd-file.bin": "luo-file",
    "memfd-folios.bin": None,
    "memfd-ser.bin": "memfd-v2",
    "memfd-vmalloc-chunk.bin": "kho-vmalloc-chunk",
    "pci-folio.bin": "pci-lu-v2-06",
    "pci-luo.dtb": "luo-v1",
    "pci-stub-page.bin": "pci-lu-stub",
    "pci-version-2.bin": "pci-version-2",
    "pci-version-2.block.bin": "kho-block-pci",
}
FILES = {
    **{name: layout for name, layout in TYPES.items() if layout is not None},
    **{f"pci/{name}.bin": name for name in golden.FORMS},
}


def test_every_golden_file_of_the_description_has_a_layout() -> None:
    assert set(TYPES) == set(golden.CATALOGUE)


@pytest.mark.parametrize("name", FILES)
def test_a_decoded_golden_file_is_built_again(name: str) -> None:
    data = (golden.GOLDEN / name).read_bytes()
    document = json.loads(json.dumps(blob_document(decode(data, FILES[name]), path="")))
    layout, made = blob_bytes(document)
    assert layout.name == FILES[name]
    assert made == data[: len(made)] and not any(data[len(made) :])
    assert len(made) >= int(document["size"], 16)  # of a list with room for more, all slots


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"a": 1,\n "b" 2}', "line 2, column 6"),
        ("a = 1\nb 2\n", "line 2, column 3"),
        ("[[handovers]]\nluo = { sessions = [ }\n", "line 2"),
        ('{"a": 9' + "9" * 5000 + "}", "digits"),
        ("{" * 100_000, ""),
        ("a = " + "[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        ("a = 1\na = 2\nb = 3\n", "line 2"),
    ],
)
def test_text_that_cannot_be_read_is_told_with_its_line(text: str, word: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_spec(text.encode(), "spec")
    assert str(caught.value).startswith("spec: ") and word in str(caught.value)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(UsageError, match=r"spec: line 2, column 6: expected UTF-8, found byte 0xff"):
        parse_spec(b"b = 1\na = '\xff'", "spec")


def test_toml_and_json_say_the_same() -> None:
    toml = (
        b'layout = "pci-lu-v2-03"\n[[devices]]\nbdf = "0000:05:00.1"\nflags = ["LU_BUSMASTER"]\ndriver_data = "64M"\n'
    )
    values = parse_spec(toml, "spec")
    assert is_blob(values)
    assert blob_bytes(values) == blob_bytes(parse_spec(json.dumps(values).encode(), "spec"))


@pytest.mark.parametrize("name", ["flags", "flag_names"])
def test_flags_can_be_given_by_their_names(name: str) -> None:
    device = {"bdf": "0000:05:00.1", name: ["LU_BUSMASTER", "0x30"]}
    _, data = blob_bytes({"layout": "pci-lu-v2-03", "devices": [device]})
    assert decode(data, "pci-lu-v2-03").devices[0].number("flags") == 0x31  # type: ignore[index]


def test_names_of_flags_are_refused_where_there_are_none() -> None:
    device = {"bdf": "0000:05:00.1", "flag_names": ["LU_BUSMASTER"]}
    refused({"layout": "pci-v2-u64", "devices": [device]}, "devices[0].flag_names: unknown member of struct")


def test_what_is_a_blob() -> None:
    assert is_blob({"layout": "luo-v5"}) and is_blob({"devices": []})
    assert not is_blob({"handovers": [], "layout": "x"}) and not is_blob({})


def refused(values: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError) as caught:
        blob_bytes(values)
    assert word in str(caught.value)


def test_blobs_that_cannot_be_are_named() -> None:
    refused({}, "layout: missing")
    refused({"layout": 5}, "layout: expected a text")
    refused({"layout": "pci-v9"}, "layout: unknown layout 'pci-v9'; did you mean")
    refused({"layout": "luo-v5", "fields": []}, "fields: expected an object")
    refused({"layout": "luo-v5", "fields": {"liveupdate_num": 1 << 64}}, "fields, liveupdate_num: ")
    refused({"layout": "luo-v5", "records": [{}]}, "records: expected no records, as luo-v5 has none")
    refused(
        {"layout": "kho-block-files", "fields": {"count": 2}, "records": [{}]},
        "fields.count: expected 1, the number of records, found 2",
    )
    refused({"layout": "kho-block-files", "records": [{"token": -1}]}, "records[0], token: -1 does not fit 8 bytes")
    refused({"layout": "kho-v4"}, "fdt: missing; expected a devicetree, as kho-v4 is one")
    refused({"layout": "kho-v4", "fdt": {}}, "fdt.strings: missing")


def test_the_files_of_real_kernels_are_built_again() -> None:
    """debugfs blobs: what the kernel itself gave out."""
    count = 0
    for case in real.CASES:
        for boot in real.truth(case):
            for name, content in boot["debugfs"].items():
                data = bytes.fromhex(content) if "scratch" not in name else b""
                layout = (
                    "kexec-metadata-v1"
                    if name.endswith("kexec-metadata")
                    else "luo-v5"
                    if data[:6] == b"luo-v5"
                    else None
                )
                if layout is not None and data:
                    document = blob_document(decode(data, layout), path="")
                    assert blob_bytes(document)[1] == data
                    count += 1
    assert count > 2


def test_the_golden_directory_is_where_it_was() -> None:
    assert all((golden.GOLDEN / Path(name)).exists() for name in FILES)
