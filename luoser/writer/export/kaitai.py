# SPDX-License-Identifier: MIT
"""Layouts as a Kaitai Struct description (.ksy).

One layout is the description itself. Several are types of it, each with its own structs as inner types, so that two
forms of one struct do not meet. A pointer of the kernel is a physical address: what it leads to is another file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from luoser.abi import guest, kho, other, pci, vfio
from luoser.abi.blob_structs import ARRAYS
from luoser.abi.registry import Layout
from luoser.abi.schema import Array, Bits, CStruct, Flex, Member, Raw, Scalar, Type

__all__ = ["document", "identifier", "kaitai", "type_names"]

Json = dict[str, Any]
_COLLECTION = "luoser_abi"
_FLEX: dict[CStruct, str] = {
    kho.setup_data.struct: "len",
    kho.fdt_property_record.struct: "len",
    guest.kvm_kho_folios_ser.struct: "nr",
    vfio.pci_cap_saved_ser.struct: "size / 4",
    other.dma_alloc_ser.struct: "is_contiguous == 1 ? 1 : nr_pages",
}
"""Elements of a flexible array whose count the struct itself has, as an expression."""
_PLAIN = re.compile(r"[a-z][a-z0-9_]*(-[a-z]+)*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def kaitai(entries: Sequence[Layout]) -> str:
    """The description of layouts as YAML."""
    return "\n".join(["# SPDX-License-Identifier: MIT", *_yaml(document(entries))]) + "\n"


def document(entries: Sequence[Layout]) -> Json:
    """The description of layouts as plain objects, which YAML and JSON hold alike."""
    meta = {"endian": "le", "bit-endian": "le", "ks-version": "0.9", "license": "MIT"}
    if len(entries) == 1:
        return {"meta": {"id": identifier(entries[0].name), "title": entries[0].summary, **meta}, **_layout(entries[0])}
    title = "What Linux hands over by kexec: KHO, LUO"
    doc = "Made by luoser. Each type is a layout; read the one that the bytes have."
    types = {identifier(entry.name): _layout(entry) for entry in entries}
    return {"meta": {"id": _COLLECTION, "title": title, **meta}, "doc": doc, "types": types}


def identifier(name: str) -> str:
    """The name of a layout in Kaitai."""
    return name.replace("-", "_")


def _layout(entry: Layout) -> Json:
    found = f" Found under {entry.handler}." if entry.handler else ""
    doc = f"{_sentence(entry.summary)} {entry.status}: {entry.seen_in}.{found} Made by luoser."
    if entry.kind == "fdt":
        return {"doc": doc, **_devicetree()}
    names = type_names(entry)
    head, types = entry.schemas[0], {name: _type(struct, names) for struct, name in names.items()}
    if entry.name in ARRAYS:
        seq: list[Json] = [{"id": "entries", "type": names[head.struct], "repeat": "eos"}]
        return {"doc": doc, "seq": seq, "types": types}
    made = types[names[head.struct]]
    doc += f" {head.size} bytes, {head.layout}."
    seq = [*made["seq"], *_records(entry, names)]
    used = {word for word in names.values() if word != names[head.struct] or _mentions(types, word)}
    inner = {word: types[word] for word in types if word in used}
    return {"doc": doc, "seq": seq, **({"instances": made["instances"]} if "instances" in made else {}),
            **({"types": inner} if inner else {})}  # fmt: skip


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}."


def _mentions(types: Json, word: str) -> bool:
    return any(item.get("type") == word for made in types.values() for item in made["seq"])


def type_names(entry: Layout) -> dict[CStruct, str]:
    """Type of each struct of a layout: its name in the kernel; of a second form with a number."""
    names: dict[CStruct, str] = {}

    def visit(struct: CStruct, name: str) -> None:
        if struct in names:
            return
        found, number = re.match(r"\w+", name), 2  # text after the name distinguishes forms
        assert found is not None
        made = found[0]
        while made in names.values():
            made, number = f"{found[0]}_{number}", number + 1
        names[struct] = made
        for member in struct.members:
            own = member.type.of if isinstance(member.type, Array | Flex) else member.type
            if isinstance(own, CStruct):
                visit(own, own.schema.name if own.schema is not None else f"{made}_{member.name}")

    for schema in entry.schemas:
        visit(schema.struct, schema.name)
    return names


def _type(struct: CStruct, names: dict[CStruct, str]) -> Json:
    made: Json = {}
    if struct.schema is not None:
        own = struct.schema
        made["doc"] = f"{own.meaning} {own.size} bytes, {own.layout}. {own.status}: {own.seen_in}."
    made["seq"] = [item for member in struct.members for item in _members(struct, member, names)]
    flags = dict(_flags(struct))
    return {**made, "instances": flags} if flags else made


def _flags(struct: CStruct) -> Iterator[tuple[str, Json]]:
    for member in struct.members:
        if isinstance(member.type, Scalar):
            for bit, word in member.type.bit_names.items():
                name = re.sub(r"\W+", "_", word).lower()
                yield f"is_{member.name}_{name}", {"value": f"({member.name} & {bit:#x}) != 0"}


def _members(struct: CStruct, member: Member, names: dict[CStruct, str]) -> Iterator[Json]:
    own = member.type
    if member.is_padding:
        yield {"size": own.size, "doc": "padding of the compiler"}
    elif isinstance(own, Bits):
        yield from _bit_fields(own, member.meaning)
    elif isinstance(own, Flex):
        if struct in _FLEX:
            yield {"id": member.name, **_element(own.of, names), **_repeat(_FLEX[struct]), **_doc(member)}
    elif isinstance(own, Array):
        yield {"id": member.name, **_element(own.of, names), **_repeat(str(own.count)), **_doc(member)}
    else:
        yield {"id": member.name, **_element(own, names), **_doc(member)}


def _doc(member: Member) -> Json:
    hint = {"address": " (physical address)", "size": " (bytes)"}.get(member.type.kind, "")
    text = member.meaning + ("" if hint.strip(" ()") in member.meaning else hint)
    return {"doc": text} if text else {}


def _repeat(count: str) -> Json:
    return {"repeat": "expr", "repeat-expr": count}


def _bit_fields(own: Bits, meaning: str) -> Iterator[Json]:
    left = 8 * own.size - sum(width for _, width in own.members)
    for name, width in own.members:
        yield {"id": name, "type": f"b{width}", "doc": meaning}
    if left:
        yield {"type": f"b{left}", "doc": "bits without a name"}


def _element(own: Type, names: dict[CStruct, str]) -> Json:
    if isinstance(own, CStruct):
        return {"type": names[own]}
    if isinstance(own, Raw):
        # A name is bytes to the kernel. This encoding has a character for each of them, so that none is refused.
        return {"size": own.size, **({"type": "strz", "encoding": "ISO-8859-1"} if own.kind == "text" else {})}
    assert isinstance(own, Scalar)
    return {
        "type": f"{'s' if own.code.islower() else 'u'}{own.size}{'be' if own.order == '>' and own.size > 1 else ''}"
    }


def _records(entry: Layout, names: dict[CStruct, str]) -> Iterator[Json]:
    """What follows the head."""
    head = entry.schemas[0]
    last = head.struct.members[-1]
    name = last.name if isinstance(last.type, Flex) else "entries"
    if entry.kind == "list":
        form = pci.layout(entry.name)
        assert form is not None
        if form.blocks is not None:
            return
        yield {"id": name, "type": names[form.record.struct], **_slots(form)}
        if form.bus is not None and form.bus_count is not None:
            yield {"id": "buses", "type": names[form.bus.struct], **_repeat(form.bus_count)}
    elif entry.count:
        yield {"id": name, "type": names[entry.schemas[1].struct], **_repeat(entry.count)}


def _slots(form: pci.PciLayout) -> Json:
    """An unpreserved device leaves a hole in a list with a capacity: the later ones are beyond the count."""
    if form.capacity is None:
        return _repeat(form.count)
    room = f"_io.size - _io.pos >= {form.record.size}"
    until = f"_index + 1 >= {form.capacity} or not ({room})"
    doc = f"All {form.capacity} slots that are there: {form.count} of them are in use, not always the first ones."
    return {"if": f"{form.capacity} > 0 and {room}", "repeat": "until", "repeat-until": until, "doc": doc}


def _devicetree() -> Json:
    """A flattened devicetree: what it has in common with all others."""
    magic = {"id": "magic", "contents": [0xD0, 0x0D, 0xFE, 0xED]}
    names: dict[CStruct, str] = {}
    header = [
        item for member in kho.fdt_header.struct.members for item in _members(kho.fdt_header.struct, member, names)
    ]
    node = {"id": "name", "type": "strz", "encoding": "ISO-8859-1", "doc": "name of the node, empty for the root"}
    pad = {"size": "(4 - _io.pos % 4) % 4", "doc": "to the next multiple of 4"}
    return {
        "seq": [magic, *header[1:]],
        "instances": {
            "reserved": {"pos": "off_mem_rsvmap", "type": "fdt_reserve_entry", "repeat": "until",
                         "repeat-until": "_.address == 0 and _.size == 0"},
            "structure": {"pos": "off_dt_struct", "size": "size_dt_struct", "type": "fdt_structure"},
            "strings": {"pos": "off_dt_strings", "size": "size_dt_strings", "type": "fdt_strings"},
        },
        "types": {
            "fdt_reserve_entry": _type(kho.fdt_reserve_entry.struct, names),
            "fdt_structure": {"seq": [{"id": "tokens", "type": "fdt_token", "repeat": "until",
                                       "repeat-until": "_.tag == 9 or _io.eof"}]},
            "fdt_token": {"seq": [
                {"id": "tag", "type": "u4be", "doc": "1 begins a node, 2 ends it, 3 a property, 4 nothing, 9 the end"},
                {"id": "node", "type": "fdt_node", "if": "tag == 1"},
                {"id": "property", "type": "fdt_property", "if": "tag == 3"},
            ]},
            "fdt_node": {"seq": [node, pad]},
            "fdt_property": {"seq": [
                {"id": "len", "type": "u4be", "doc": "bytes of the value"},
                {"id": "nameoff", "type": "u4be", "doc": "offset of the name in the strings"},
                {"id": "value", "size": "len", "doc": "KHO writes integers in the byte order of the kernel"},
                pad,
            ]},
            "fdt_strings": {"doc": "names of properties, each with a NUL", "seq": [{"id": "names", "size-eos": True}]},
        },
    }  # fmt: skip


def _yaml(value: Json, indent: str = "") -> Iterator[str]:
    for key, item in value.items():
        word = key if _PLAIN.fullmatch(key) and key not in _WORDS else json.dumps(key)
        if isinstance(item, dict):
            yield f"{indent}{word}:"
            yield from _yaml(item, indent + "  ")
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            yield f"{indent}{word}:"
            for one in item:
                first, *rest = _yaml(one, indent + "    ")
                yield f"{indent}  - {first.lstrip()}"
                yield from rest
        else:
            yield f"{indent}{word}: {_scalar(item)}"


def _scalar(item: Any) -> str:
    """A value in JSON, which is YAML, too; a plain word stays plain."""
    return item if isinstance(item, str) and _PLAIN.fullmatch(item) and item not in _WORDS else json.dumps(item)
