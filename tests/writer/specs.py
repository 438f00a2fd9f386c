# SPDX-License-Identifier: MIT
"""Random short descriptions of handovers, as people write them, of every release and layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from luoser.abi.pci import LAYOUTS, PciLayout
from luoser.state.columns import columns

__all__ = ["KERNELS", "LUO_FORMS", "Case", "cases", "device_list", "luo_parts"]

Json = dict[str, Any]
KERNELS = ("6.16", "6.17", "6.18", "6.19", "7.0", "7.1", "7.2", "7.3")
LUO_FORMS = (
    "luo-v1", "luo-v1-flb", "luo-v1-session-v1", "luo-v1-subsystems", "luo-v2", "luo-v3", "luo-v4", "luo-v5",
    "luo-composed", "luo-features",
)  # fmt: skip
WITHOUT_FLBS = ("luo-v1", "luo-v1-subsystems")
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
u64 = st.integers(0, (1 << 64) - 1)


@dataclass(frozen=True, slots=True)
class Case:
    """A description, the release to complete it for, and the layouts to read it with."""

    document: Json
    kernel: str
    layouts: tuple[str, ...] = ()


@st.composite
def resources(draw: st.DrawFn) -> Json:
    start = draw(st.integers(0, 1 << 40))
    return {"start": start, "end": hex(start + draw(st.integers(0, 1 << 30))), "name": "PCI Bus 0000:41", "flags": 512}


@st.composite
def device(draw: st.DrawFn, form: PciLayout, bdf: str) -> Json:
    made: Json = {"bdf": bdf}
    for column in columns(form.record):
        if column.kind == "text":
            made[column.name] = draw(st.from_regex(r"[a-z][a-z0-9_-]{0,61}", fullmatch=True))
        elif column.kind == "bits":
            made |= {name: draw(st.integers(0, 1)) for name, _, width in column.bits}
        elif column.kind == "records":
            made[column.name] = draw(st.lists(resources(), max_size=3))
        elif column.kind == "token":
            made[column.name] = draw(u64)
    members = set(form.record.record_fields)
    for name, values in (
        ("flags", st.sampled_from([["LU_BUSMASTER"], 1, ["lu_busmaster", "LU_BUSMASTER_BRIDGE"]])),
        ("requested", st.just(1)),
        ("refcount", st.integers(1, 0xFFFF)),
        ("driver_data", st.one_of(st.just(0), u64.filter(lambda value: value % 4096 > 0))),
        ("num_vfs", st.integers(0, 0xFFFF)),
        ("current_state", st.integers(0, 4)),
        ("pm_cap", st.integers(0, 255)),
    ):
        if name in members:
            made[name] = draw(values)
    if "devfn" in members:
        slot, function = bdf.rsplit(":", 1)[1].split(".")
        made["devfn"] = int(slot, 16) << 3 | int(function)
    return made


@st.composite
def device_list(draw: st.DrawFn, form: PciLayout, via: str, *, max_size: int = 5) -> Json:
    is_wide = "domain" in form.record.record_fields and form.record.size != 4
    top = 0x1FFFF if is_wide else 0xFFFF
    places = st.tuples(st.one_of(st.integers(0, 2), st.integers(0, top)), st.integers(1, 0xFFFF))
    found = draw(st.lists(places, min_size=1, max_size=max_size, unique=True))
    if form.is_sorted:
        wraps = form.record.size == 4
        found.sort(key=lambda place: (place[0] - (1 << 16) if wraps and place[0] >> 15 else place[0], place[1]))
    texts = [f"{domain:04x}:{bdf >> 8:02x}:{bdf >> 3 & 31:02x}.{bdf & 7}" for domain, bdf in found]
    made: Json = {"layout": form.name, "via": [via], "devices": [draw(device(form, text)) for text in texts]}
    if form.bus is not None:
        numbers = draw(st.lists(st.integers(0, 255), max_size=3, unique=True))
        made["buses"] = [{"bus": f"0000:{number:02x}"} for number in numbers]
    if "refcount" in form.record.record_fields and draw(st.booleans()):  # devices that were taken back
        gaps = draw(st.lists(st.integers(0, 2), min_size=len(texts), max_size=len(texts)))
        place = 0
        for entry, gap in zip(made["devices"], gaps, strict=True):
            place += gap
            entry["index"] = place
            place += 1
    if form.capacity is not None and draw(st.booleans()):
        last = made["devices"][-1].get("index", len(texts) - 1)
        made["header"] = {form.capacity: last + 1 + draw(st.integers(0, 3))}
    return made


@st.composite
def memfd(draw: st.DrawFn, compatible: str) -> Json:
    made: Json = {"size": draw(st.one_of(st.integers(0, 1 << 16), st.sampled_from(["64K", "3M"])))}
    if draw(st.booleans()):
        made["position"] = draw(st.integers(0, (1 << 63) - 1))
    if compatible == "memfd-v1":
        return {**made, "layout": draw(st.sampled_from(["memfd-v1", "memfd-pre-merge"])), "position": 1}
    if draw(st.booleans()):
        made["seals"] = draw(st.sampled_from([0, 63, ["SHRINK", "GROW"], ["F_SEAL_WRITE"]]))
    return {**made, "position": 1}  # of no bytes, no position and no seals nothing but zeros would be left


@st.composite
def files(draw: st.DrawFn, layout_name: str) -> list[Json]:
    made = []
    for token in draw(st.lists(u64, max_size=4, unique=True)):
        kinds = ["memfd", "memfd-v2", "memfd-v1", "handler"]
        kind = draw(st.sampled_from(kinds if layout_name != "luo-v1-subsystems" else ["handler"]))
        if kind == "handler":
            made.append({"compatible": "unknown-v1", "token": token})
        else:
            made.append({"compatible": kind, "token": token, "memfd": draw(memfd(kind))})
    return made


@st.composite
def luo_parts(draw: st.DrawFn, layout_name: str) -> Json:
    luo: Json = {"layout": layout_name}
    if layout_name != "luo-v1-subsystems":
        luo["liveupdate_number"] = draw(st.integers(1, (1 << 64) - 1))
        long = 55 if layout_name == "luo-v1-session-v1" else 63
        found = st.one_of(names, st.just("x" * long))
        luo["sessions"] = [
            {"name": name, "files": draw(files(layout_name))} for name in draw(st.lists(found, max_size=3))
        ]
    if layout_name not in WITHOUT_FLBS and draw(st.booleans()):
        luo["flbs"] = [{"name": "other-v1", "data": "0x1000000", "count": draw(st.integers(1, 100))}]
    if layout_name == "luo-v1-subsystems" and draw(st.booleans()):
        luo["subsystems"] = [{"name": "else", "data": draw(u64)}]
    return luo


def _aligned(draw: st.DrawFn, page_size: int) -> list[list[Any]]:
    orders = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    return [[hex((1 << 32) + index * (page_size << 10)), order] for index, order in enumerate(orders)]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kernel, page_size = draw(st.sampled_from(KERNELS)), draw(st.sampled_from([4096, 4096, 16384, 65536]))
    handover: Json = {}
    compatible = draw(st.sampled_from([None, "kho-v1", "kho-v2", "kho-v3", "kho-v4"]))
    if compatible is not None:
        handover["compatible"] = compatible
    has_sizes = compatible in ("kho-v3", "kho-v4") or (compatible is None and kernel in ("7.1", "7.2", "7.3"))
    layout_name = draw(st.sampled_from(LUO_FORMS if has_sizes else LUO_FORMS[:-1]))  # luo-features needs its size
    handover["luo"] = draw(luo_parts(layout_name))
    form = draw(st.sampled_from(LAYOUTS))
    chosen: tuple[str, ...] = ()
    if layout_name != "luo-v1" and draw(st.booleans()):
        if layout_name == "luo-v1-subsystems":
            form, via = draw(st.sampled_from([entry for entry in LAYOUTS if entry.family == "A"])), "subsystem:pci"
        else:
            via = f"flb:{form.flb_names[0]}" if form.flb_names else "flb:pci"
        handover["pci"] = [draw(device_list(form, via))]
        chosen = (form.name,)
    if draw(st.booleans()):
        handover["memblock"] = {
            "reservations": [{"name": "trace", "size": draw(st.sampled_from(["1M", 4096 * 17, "64K"]))}]
        }
    if draw(st.booleans()):
        handover["kho_test"] = {"folios": _aligned(draw, page_size), "checksum": draw(st.integers(0, (1 << 32) - 1))}
    if has_sizes and draw(st.booleans()):
        handover["kexec_metadata"] = {"previous_release": "7.3.4-test", "kexec_count": draw(st.integers(1, 99))}
    document = {"source": {"page_size": page_size}, "handovers": [handover]}
    return Case(document, kernel, chosen)
