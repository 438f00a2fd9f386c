# SPDX-License-Identifier: MIT
"""The JSON documents against the schemas that are shipped with them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

import luoser
from luoser.abi.registry import layouts
from luoser.cli.main import cli
from luoser.errors import LuoserError
from luoser.reader.blob import decode
from luoser.state import blob_document, to_document
from luoser.state.to_json import BLOB_SCHEMA, SCHEMA
from tests import golden, real, schemas

each_dump = pytest.mark.parametrize("name", real.DUMPS)


@cache
def whole(name: str) -> dict[str, Any]:
    """The largest document of a dump."""
    return to_document(luoser.read(real.dump(name), contents=True), full=True)


# -- the schemas ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", schemas.KINDS)
def test_schemas_are_schemas(kind: str) -> None:
    Draft202012Validator.check_schema(schemas.schema(kind))
    assert schemas.schema(kind)["title"] == schemas.schema(kind)["properties"]["schema"]["const"]
    assert re.fullmatch(rf"luoser/{kind}/\d", schemas.schema(kind)["title"])


def subschemas(schema: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        yield where, schema
        for key, value in schema.items():
            yield from subschemas(value, f"{where}/{key}")
    elif isinstance(schema, list):
        for index, value in enumerate(schema):
            yield from subschemas(value, f"{where}/{index}")


@pytest.mark.parametrize("kind", schemas.KINDS)
def test_no_object_takes_unknown_members(kind: str) -> None:
    for where, found in subschemas(schemas.schema(kind)):
        if found.get("type") == "object" and not re.search(r"/(if|then|else)(/|$)", where):
            assert found.get("additionalProperties") is not None, where
            assert found["additionalProperties"] is not True, where


@pytest.mark.parametrize("kind", schemas.KINDS)
def test_every_reference_leads_somewhere(kind: str) -> None:
    for where, found in subschemas(schemas.schema(kind)):
        target = found.get("$ref")
        if isinstance(target, str):
            file, _, pointer = target.partition("#/$defs/")
            there = schemas.schema(file.split(":")[2] if file else kind)
            assert pointer in there["$defs"] if pointer else file == there["$id"], where


def test_documents_name_their_schema() -> None:
    assert schemas.schema("state")["title"] == SCHEMA
    assert schemas.schema("decode")["title"] == BLOB_SCHEMA


# -- documents of real dumps ------------------------------------------------------------------------------


@each_dump
def test_state_documents_are_valid(name: str) -> None:
    """Long lists whole in the largest of them, from each other every 16th item."""
    assert schemas.errors(real.document(name)) == []
    assert schemas.errors(whole(name) if name == "7.3-chain/frozen2" else thinned(whole(name))) == []


def thinned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: thinned(item) for key, item in value.items()}
    return [thinned(item) for item in value[:: 16 if len(value) > 1000 else 1]] if isinstance(value, list) else value


@each_dump
def test_documents_without_contents_are_valid(name: str) -> None:
    """Their long lists are those of the whole document, which are judged there."""
    full = to_document(real.read(name), full=True)
    assert without_contents(full["handovers"]) == without_contents(whole(name)["handovers"])
    assert schemas.errors(shortened(full) | {"problems": full["problems"]}) == []


def without_contents(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_contents(item) for key, item in value.items() if key != "contents"}
    return [without_contents(item) for item in value] if isinstance(value, list) else value


def shortened(value: Any) -> Any:
    """A document with a few items of each long list, so that judging it does not take long."""
    if isinstance(value, dict):
        return {key: shortened(item) for key, item in value.items()}
    return [shortened(item) for item in value[:6]] if isinstance(value, list) else value


@each_dump
def test_documents_survive_json(name: str) -> None:
    text = json.dumps(whole(name), ensure_ascii=True)
    assert json.loads(text) == whole(name)
    assert text.isascii()


def flat(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from flat(item, f"{where}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from flat(item, f"{where}[]")
    else:
        yield where, value


@each_dump
def test_the_short_document_is_the_long_one_with_members_left_out(name: str) -> None:
    def within(short: Any, full: Any) -> bool:
        if isinstance(short, dict):
            return all(key in full and within(value, full[key]) for key, value in short.items())
        if isinstance(short, list):
            return len(short) == len(full) and all(map(within, short, full))
        return bool(short == full)

    assert within(real.document(name)["handovers"], whole(name)["handovers"])


@each_dump
def test_addresses_are_hex_strings_and_counts_are_numbers(name: str) -> None:
    for where, value in flat(whole(name)):
        member = where.rsplit(".", 1)[-1].removesuffix("[]")
        if member in {"address", "data", "token", "size", "position", "start", "driver_data"}:
            assert value is None or re.fullmatch("0x(0|[1-9a-f][0-9a-f]*)", value), (where, value)
        if member in {"entries", "count", "seals", "flags", "refcount", "index", "liveupdate_number"}:
            assert value is None or type(value) is int, (where, value)


def test_full_documents_hold_every_optional_part() -> None:
    """Somewhere in the real dumps; so that a valid document is not valid for being empty."""
    seen = {where for name in real.DUMPS for where, value in flat(whole(name)) if value is not None}
    for part in (
        ".handovers[].fdt.root.properties[][]",
        ".handovers[].subtrees[].fdt.root.name",
        ".handovers[].preserved.extents[][]",
        ".handovers[].preserved.nodes[]",
        ".handovers[].preserved.bitmap_size",
        ".handovers[].scratch[].size",
        ".handovers[].luo.session_area",
        ".handovers[].luo.session_blocks[]",
        ".handovers[].luo.flb_area",
        ".handovers[].luo.sessions[].blocks[]",
        ".handovers[].luo.sessions[].files[].memfd.folios.list[][]",
        ".handovers[].luo.sessions[].files[].memfd.folios.chunks[]",
        ".handovers[].luo.sessions[].files[].memfd.folios.pages[]",
        ".handovers[].luo.sessions[].files[].memfd.contents[].bytes",
        ".handovers[].luo.sessions[].files[].memfd.flags",
        ".handovers[].luo.subsystems[].data",
        ".handovers[].pci[].header.count",
        ".handovers[].pci[].contents[].bytes",
        ".handovers[].kho_test.folios[][]",
        ".handovers[].memblock.reservations[].start",
        ".handovers[].kexec_metadata.kexec_count",
        ".problems[].message",
    ):
        assert part in seen, part


def test_contents_are_those_that_the_lab_wrote() -> None:
    entry = next(entry for entry in whole("7.3-a/frozen")["handovers"][0]["pci"] if entry["layout"] == "pci-lu-v2-03")
    pages = {piece["address"]: bytes.fromhex(piece["bytes"]) for piece in entry["contents"]}
    for device in entry["devices"]:
        if device["driver_data"] != "0x0":
            assert pages[device["driver_data"]].startswith(f"lab driver state of {device['bdf']}".encode())


# -- changed documents ------------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], object]


def handover(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["handovers"][0]
    return found


def memfd(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = handover(document)["luo"]["sessions"][0]["files"][0]["memfd"]
    return found


def pci(document: dict[str, Any], index: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = handover(document)["pci"][index]
    return found


CHANGES: dict[str, Change] = {
    "schema": lambda d: d.update(schema="luoser/state/2"),
    "no problems": lambda d: d.pop("problems"),
    "unknown member": lambda d: d.update(more=1),
    "unknown member of a handover": lambda d: handover(d).update(more=1),
    "unknown member of a device": lambda d: pci(d)["devices"][0].update(refcount=1),
    "no handovers": lambda d: d.update(handovers=[]),
    "page size": lambda d: d["source"].update(page_size=4097),
    "address as a number": lambda d: handover(d).update(address=0x5CD000),
    "address in capitals": lambda d: handover(d).update(address="0x5CD000"),
    "address with zeros": lambda d: handover(d).update(address="0x05cd000"),
    "address of 65 bits": lambda d: handover(d).update(address="0x1" + 16 * "0"),
    "compatible": lambda d: handover(d).update(compatible="luo-v5"),
    "direction": lambda d: handover(d).update(direction="sideways"),
    "form": lambda d: handover(d)["preserved"].update(form="list"),
    "status": lambda d: handover(d)["preserved"].update(status="fine"),
    "stale with entries": lambda d: handover(d)["preserved"].update(status="stale"),
    "intact without entries": lambda d: handover(d)["preserved"].update(entries=None),
    "entries as text": lambda d: handover(d)["preserved"].update(entries="17845"),
    "entries below zero": lambda d: handover(d)["preserved"].update(entries=-1),
    "extents without nodes": lambda d: handover(d)["preserved"].pop("nodes"),
    "extent of two": lambda d: handover(d)["preserved"]["extents"][0].pop(),
    "extent of none": lambda d: handover(d)["preserved"]["extents"].__setitem__(0, ["0x0", 0, 0]),
    "scratch": lambda d: handover(d).update(scratch=[{"address": "0x0"}]),
    "sub-tree without size": lambda d: handover(d)["subtrees"][0].pop("size"),
    "devicetree value": lambda d: handover(d)["fdt"]["root"]["properties"][0].__setitem__(1, "0"),
    "serialized as a number": lambda d: handover(d)["luo"].update(serialized=1),
    "luo layout": lambda d: handover(d)["luo"].update(layout="luo-v9"),
    "token as a number": lambda d: handover(d)["luo"]["sessions"][0]["files"][0].update(token=26),
    "session without files": lambda d: handover(d)["luo"]["sessions"][0].pop("files"),
    "half of a full session": lambda d: handover(d)["luo"]["sessions"][0].pop("blocks"),
    "file without memfd": lambda d: handover(d)["luo"]["sessions"][0]["files"][0].pop("memfd"),
    "flb count as text": lambda d: handover(d)["luo"]["flbs"][0].update(count="0x40"),
    "memfd layout": lambda d: memfd(d).update(layout="memfd-v3"),
    "memfd size as a number": lambda d: memfd(d).update(size=4096),
    "seals as text": lambda d: memfd(d).update(seals="SEAL"),
    "folio flags": lambda d: memfd(d)["folios"]["list"][0].__setitem__(2, 4096),
    "contents": lambda d: memfd(d).update(contents=[{"address": "0x0", "size": "0x1", "bytes": "0"}]),
    "list layout": lambda d: pci(d).update(layout="pci-v9"),
    "layout of other devices": lambda d: pci(d).update(layout="pci-v2-u64"),
    "list of nowhere": lambda d: pci(d).update(via=[]),
    "way": lambda d: pci(d).update(via=["guess:pci"]),
    "header member": lambda d: pci(d)["header"].update(more=1),
    "buses of a list without": lambda d: pci(d).update(buses=[{"bus": "0000:41", "domain": 0, "number": 65}]),
    "device without flag names": lambda d: pci(d)["devices"][0].pop("flag_names"),
    "flag name": lambda d: pci(d)["devices"][0].update(flag_names=["BUSMASTER"]),
    "bdf": lambda d: pci(d)["devices"][0].update(bdf="41:00.0"),
    "function 8": lambda d: pci(d)["devices"][0].update(bdf="0000:41:00.8"),
    "driver_data as a number": lambda d: pci(d)["devices"][0].update(driver_data=0),
    "refcount of 17 bits": lambda d: pci(d, 0)["devices"][0].update(refcount=65536),
    "metadata": lambda d: handover(d)["kexec_metadata"].pop("version"),
    "kho_test": lambda d: handover(d)["kho_test"].update(nr_folios="0xd"),
    "reservation": lambda d: handover(d)["memblock"]["reservations"][0].update(start=None),
    "problem": lambda d: d["problems"].append({"code": "No Code", "address": None, "message": "x"}),
    "problem without address": lambda d: d["problems"].append({"code": "x", "message": "x"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_documents_are_not_valid(change: str) -> None:
    document = shortened(whole("7.3-a/frozen"))
    assert schemas.errors(document) == []
    CHANGES[change](document)
    assert schemas.errors(document, "state") != []


# -- documents of the other commands ----------------------------------------------------------------------


def printed(*arguments: str, code: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(cli, [*arguments, "--format", "json"], catch_exceptions=False)
    assert result.exit_code == code, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


@pytest.mark.parametrize("command", ["pci", "map", "inspect"])
@pytest.mark.parametrize("name", ["6.18-a/post", "6.19-a/pre", "7.3-a/frozen", "7.3-a/post"])
def test_command_documents_are_valid(command: str, name: str) -> None:
    document = printed(command, str(real.path(name)))
    assert schemas.errors(document) == []
    kind = {"inspect": "state"}.get(command, command)
    assert document["schema"] == f"luoser/{kind}/1"
    want = real.document(name)["handovers"]
    assert [entry["address"] for entry in document["handovers"]] == [entry["address"] for entry in want]
    for got, entry in zip(document["handovers"], want, strict=True):
        assert command == "map" or got["pci"] == entry["pci"]


def test_changed_command_documents_are_not_valid() -> None:
    frozen = str(real.path("7.3-a/frozen"))
    extents = printed("map", frozen)
    extents["handovers"][0]["preserved"].pop("extents")
    assert schemas.errors(extents) != []
    lists = printed("pci", frozen)
    lists["handovers"][0]["luo"] = None
    assert schemas.errors(lists) != []


@pytest.mark.parametrize("name", sorted(golden.files()))
def test_decode_documents_are_valid(name: str) -> None:
    data = golden.files()[name]
    made = [decode(data, entry.name) for entry in layouts() if reads_as(data, entry.name)]
    assert made
    for blob in made:
        document = json.loads(json.dumps(blob_document(blob, path=name)))
        if blob.size >> 64:  # see test_a_wrong_layout_does_not_claim_more_than_there_is
            document["size"] = "0x0"
        assert schemas.errors(document) == [], blob.layout


def test_a_wrong_layout_does_not_claim_more_than_there_is() -> None:
    data = golden.files()["pci/pci-lu-v1-12.bin"]
    assert decode(data, "pci-v2-u64").size <= len(data)


def reads_as(data: bytes, name: str) -> bool:
    try:
        decode(data, name)
    except LuoserError:
        return False
    return True


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(devices=None),
        lambda d: d.update(size=168),
        lambda d: d.update(candidates=[]),
        lambda d: d.update(more=1),
        lambda d: d["fields"].update(other=1),
        lambda d: d["devices"][0].pop("driver_name"),
        lambda d: d["devices"][0].update(requested=1),
        lambda d: d.update(buses=[{"bus": "0000:05", "domain": 0, "number": 5}]),
        lambda d: d.update(records=[{"a": 1}]),
    ],
)
def test_changed_decode_documents_are_not_valid(change: Change) -> None:
    document = blob_document(decode(golden.CATALOGUE["pci-folio.bin"]), path="x")
    assert schemas.errors(document) == []
    change(document)
    assert schemas.errors(document) != []


def test_abi_documents_are_valid() -> None:
    everything = printed("abi", "list")
    assert schemas.errors(everything) == []
    assert [entry["name"] for entry in everything["layouts"]] == [entry.name for entry in layouts()]
    one = printed("abi", "show", "pci-lu-v1-22-iov")
    assert schemas.errors(one) == []
    assert one["layouts"][0] in everything["layouts"]
    one["layouts"][0]["structs"][0]["fields"][0]["bit_width"] = 1
    assert schemas.errors(one) != []


def test_detect_documents_are_valid() -> None:
    found = printed("abi", "detect", str(golden.GOLDEN / "pci-folio.bin"))
    assert schemas.errors(found) == []
    assert [row["layout"] for row in found["candidates"]] == ["pci-lu-v2-06"]
    nothing = printed("abi", "detect", str(golden.GOLDEN / "kho-chunk-512.bin"), code=1)
    assert schemas.errors(nothing) == [] and nothing["candidates"] == []
    found["candidates"][0]["why"] = ""
    assert schemas.errors(found) != []


@pytest.mark.parametrize(
    ("name", "member"),
    [("luo-ser.bin", "sessions_pa"), ("pci-version-2.bin", "devices"), ("memfd-ser.bin", "size")],
)
def test_addresses_in_decode_are_hex_strings(name: str, member: str) -> None:
    fields = blob_document(decode(golden.CATALOGUE[name]), path=name)["fields"]
    assert re.fullmatch("0x[0-9a-f]+", str(fields[member]))


def test_names_keep_every_byte() -> None:
    """Bytes that are no UTF-8 come through JSON as surrogate escapes."""
    devices = [golden.Dev(domain=0, bdf=0x501, driver=b"dr\xffv\x1b[1m", data=0)]
    blob = decode(golden.FORMS["pci-lu-v2-06"].blob(devices), "pci-lu-v2-06")
    document = json.loads(json.dumps(blob_document(blob, path="x")))
    name = document["devices"][0]["driver_name"]
    assert name.encode("utf-8", "surrogateescape") == b"dr\xffv\x1b[1m"
    assert schemas.errors(document) == []
