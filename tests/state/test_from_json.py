# SPDX-License-Identifier: MIT
"""The state document read back: real ones come back whole, hostile ones are refused with the path."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import luoser
from luoser.errors import UsageError
from luoser.state import State, to_document
from luoser.state.from_json import from_document
from luoser.writer import write
from luoser.writer.complete import complete
from tests import real

Json = dict[str, Any]
Path = tuple[str | int, ...]


@cache
def read(name: str) -> tuple[State, str]:
    state = luoser.read(real.dump(name), contents=True)
    return state, json.dumps(to_document(state, full=True))


def document(name: str = "7.3-chain/frozen") -> Json:
    """All of a real dump, to change as one likes."""
    made: Json = json.loads(read(name)[1])
    return made


@pytest.mark.parametrize("name", real.DUMPS)
def test_a_real_state_comes_back(name: str) -> None:
    state, full = read(name)[0], document(name)
    back = from_document(full)
    assert back == state
    assert to_document(back, full=True) == full


def put(values: Any, path: Path, value: Any) -> None:
    for step in path[:-1]:
        values = values[step]
    if value is MISSING:
        del values[path[-1]]
    else:
        values[path[-1]] = value


def short() -> Json:
    """The same with 64 folios at most of a file, so that reading it does not take long."""
    made = document()
    for session in made["handovers"][0]["luo"]["sessions"]:
        for file in session["files"]:
            if file["memfd"] is not None:
                file["memfd"]["folios"]["list"] = file["memfd"]["folios"]["list"][:64]
                file["memfd"]["folios"]["count"] = min(file["memfd"]["folios"]["count"], 64)
    return made


MISSING = object()
H = ("handovers", 0)
SESSION = (*H, "luo", "sessions", 0)
FOLIO = (*SESSION, "files", 0, "memfd", "folios", "list", 3)
LIST = (*H, "pci", 1)
"""A list of pci-lu-v2-03."""
WRONG: list[tuple[Path, Any, str]] = [
    (("schema",), "luoser/state/2", "schema: expected luoser/state/1, found 'luoser/state/2'"),
    (("source", "page_size"), 8192, "source.page_size: expected 4096, 16384 or 65536, found 8192"),
    (("handovers",), {}, "handovers: expected a list"),
    ((*H,), 5, "handovers[0]: expected an object"),
    ((*H, "address"), "0xzz", "handovers[0].address: expected a number such as 0x617000 or 64M, found '0xzz'"),
    ((*H, "address"), "0x10000000000000000", "handovers[0].address: '0x10000000000000000' does not fit 64 bits"),
    ((*H, "address"), -1, "handovers[0].address: -1 does not fit 64 bits"),
    ((*H, "address"), True, "handovers[0].address: expected a number"),
    ((*H, "address"), 1.5, "handovers[0].address: expected a number"),
    ((*H, "compatible"), MISSING, "handovers[0].compatible: missing"),
    ((*H, "compatible"), "a\ud800", "handovers[0].compatible: expected a text of UTF-8"),
    ((*H, "direction"), "sideways", "direction: expected one of incoming, outgoing, unknown, found 'sideways'"),
    ((*H, "preserved"), None, "handovers[0].preserved: missing"),
    ((*H, "preserved", "form"), "tree", "handovers[0].preserved.form: expected one of radix, chunks, found 'tree'"),
    ((*H, "preserved", "status"), "fine", "expected one of absent, missing, unread, stale, damaged, intact"),
    ((*H, "preserved", "bitmap_size"), 77, "handovers[0].preserved.bitmap_size: expected 512 or 4096 bytes, found 77"),
    ((*H, "preserved", "extents"), None, "extents: expected those of 17594 entries; `inspect --full` gives them"),
    ((*H, "preserved", "extents", 0), ["0x1000", 0], "handovers[0].preserved.extents[0]: expected a list of 3"),
    ((*H, "preserved", "extents", 0), ["0x1001", 0, 1], "extents[0]: impossible extent: 1 blocks of order 0 at 0x1001"),
    ((*H, "preserved", "extents", 0), [0, 60, 1], "preserved.extents[0]: impossible extent: 1 blocks of order 60"),
    ((*H, "preserved", "extents", 0), [0, 0, 1 << 39], "preserved.extents[0]: too many blocks in the map: expected"),
    ((*H, "preserved", "extents", 0, 1), None, "handovers[0].preserved.extents[0][1]: expected a number"),
    ((*H, "preserved", "entries"), 1, "handovers[0].preserved.entries: expected "),
    ((*H, "preserved", "bitmaps", 0), 5, "handovers[0].preserved.bitmaps[0]: expected a list of 3 numbers"),
    ((*H, "subtrees", 0, "name"), 5, "handovers[0].subtrees[0].name: expected a text"),
    ((*H, "fdt", "root"), None, "handovers[0].fdt.root: missing"),
    ((*H, "fdt", "totalsize"), 1 << 30, "fdt.totalsize: expected at most 0x1000000, found 0x40000000"),
    ((*H, "fdt", "off_dt_struct"), 1 << 40, "fdt.off_dt_struct: expected at most 0x1000000, found 0x10000000000"),
    ((*H, "fdt", "strings"), "0g", "handovers[0].fdt.strings: expected bytes in hex"),
    ((*H, "fdt", "root", "properties", 0), ["a"], "handovers[0].fdt.root.properties[0]: expected a name and bytes"),
    ((*H, "luo", "address"), None, "handovers[0].luo.address: missing"),
    ((*H, "luo", "serialized"), 1, "handovers[0].luo.serialized: expected true or false"),
    ((*SESSION, "name"), None, "handovers[0].luo.sessions[0].name: expected a text"),
    ((*SESSION, "files", 1, "token"), "1G1", "files[1].token: expected a number such as 0x617000 or 64M, found '1G1'"),
    ((*SESSION, "files", 0, "memfd", "seals"), ["SEAL", "OPEN"], "files[0].memfd.seals[1]: expected one of SEAL, SHR"),
    ((*SESSION, "files", 0, "memfd", "folios"), None, "files[0].memfd.folios: missing"),
    (FOLIO, [0, 5, 0], "files[0].memfd.folios.list[3]: not a folio of a file: address 0x5"),
    (FOLIO, [0, 0, 4096], "folios.list[3]: not a folio of a file: address 0x0, flags 0x1000"),
    ((*H, "luo", "flbs", 0, "count"), "many", "luo.flbs[0].count: expected a number such as 0x617000 or 64M"),
    ((*H, "luo", "flbs", 0, "detail"), {"address": 0, "readings": []}, "luo.flbs[0].detail.readings: missing"),
    ((*LIST, "layout"), "pci-lu-v9", "handovers[0].pci[1].layout: unknown device list layout 'pci-lu-v9'"),
    ((*LIST, "header"), None, "handovers[0].pci[1].header."),
    ((*LIST, "header", "x"), 1, "handovers[0].pci[1].header.x: unknown member of struct pci_ser"),
    ((*LIST, "slots"), 999, "pci[1].slots: expected 8, as pci-lu-v2-03 has no empty slots, found 999"),
    ((*LIST, "slots"), 1 << 40, "pci[1].devices: too many: 1099511627776 slots of 16 bytes, expected at most"),
    ((*LIST, "buses"), [{}], "handovers[0].pci[1].buses: expected no buses, as pci-lu-v2-03 has none"),
    ((*LIST, "devices", 2, "bdf"), "0000:05:20.0", "devices[2].bdf: expected a PCI address such as"),
    ((*LIST, "devices", 2, "index"), 1, "handovers[0].pci[1].devices: expected a unique index for each device"),
    ((*LIST, "devices", 2, "flags"), 1 << 32, "handovers[0].pci[1].devices[2].flags: 4294967296 does not fit 4 bytes"),
    ((*LIST, "devices", 2, "flag_names"), ["LU_BUS"], "devices[2].flag_names[0]: expected one of LU_BUSMASTER"),
    ((*LIST, "devices", 2, "flags"), ["LU_BUS"], "devices[2].flags[0]: expected one of LU_BUSMASTER"),
    ((*LIST, "devices", 2, "driver_name"), "nvme", "devices[2].driver_name: unknown member of struct pci_dev_ser"),
    ((*LIST, "contents", 0, "bytes"), 5, "handovers[0].pci[1].contents[0].bytes: expected a text"),
    ((*H, "memblock", "reservations", 0, "size"), None, "handovers[0].memblock.reservations[0].size: missing"),
    ((*H, "kexec_metadata", "kexec_count"), [], "handovers[0].kexec_metadata.kexec_count: expected a number"),
    ((*H, "kho_test", "folios", 0), 7, "handovers[0].kho_test.folios[0]: expected a list of 2 numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "word"), WRONG, ids=[f"{entry[0][-1]}-{i}" for i, entry in enumerate(WRONG)])
def test_an_error_names_the_path(path: Path, value: Any, word: str) -> None:
    full = short()
    put(full, path, value)
    with pytest.raises(UsageError) as caught:
        from_document(full)
    assert word in str(caught.value)


def test_numbers_are_taken_as_people_write_them() -> None:
    full = short()
    put(full, (*H, "memblock", "reservations", 0, "size"), "64K")
    put(full, (*LIST, "devices", 0, "flags"), ["lu_busmaster", "LU_BUSMASTER_BRIDGE"])
    put(full, (*SESSION, "files", 0, "memfd", "seals"), ["F_SEAL_SHRINK", "grow"])
    handover = from_document(full).handovers[0]
    assert handover.memblock is not None and handover.memblock.reservations[0].size == 65536
    assert handover.pci[1].devices[0].number("flags") == 3
    assert handover.luo is not None
    memfd = handover.luo.sessions[0].files[0].memfd
    assert memfd is not None and memfd.seals == 6


def test_numbers_of_any_length_and_any_depth_are_refused() -> None:
    for value in ("0x" + "f" * 20000, 1 << 100000, "9" * 20000):
        full = short()
        put(full, (*H, "address"), value)
        with pytest.raises(UsageError, match=r"handovers\[0\]\.address"):
            from_document(full)
    deep: Any = {"name": "", "properties": [], "nodes": []}
    for _ in range(900):
        deep = {"name": "a", "properties": [], "nodes": [deep]}
    full = short()
    put(full, (*H, "fdt", "root"), deep)
    with pytest.raises(UsageError, match="levels"):
        from_document(full)
    with pytest.raises(UsageError, match="nested too deeply"):
        complete(full)


# -- hostile documents: whatever stands where, only UsageError -------------------------------------------------

SHORT: Json = {
    "source": {"page_size": 4096},
    "handovers": [
        {
            "scratch": [{"address": "0x2000000", "size": "16M"}],
            "luo": {
                "sessions": [
                    {
                        "name": "a",
                        "files": [
                            {"memfd": {"size": "8K", "seals": ["SHRINK"]}},
                            {
                                "compatible": "vfio-pci-v2",
                                "detail": {"readings": [{"layout": "vfio-pci-v2", "fields": {"bdf": 7, "domain": 1}}]},
                            },
                        ],
                    }
                ],
                "flbs": [{"name": "x", "count": 1}],
            },
            "pci": [
                {
                    "layout": "pci-lu-v1-22",
                    "devices": [{"bdf": "0000:01:00.0", "requested": 1, "resource": [{"start": 1, "name": "a"}]}],
                    "buses": [{"bus": "0000:01", "resource": [{"end": 9}]}],
                    "contents": [{"address": "0x9000000", "size": 4096, "bytes": "00"}],
                },
                {
                    "layout": "pci-version-2",
                    "via": ["flb:pci-v2"],
                    "devices": [{"bdf": "0:02:00.0", "refcount": 1, "index": 3}],
                },
            ],
            "memblock": {"reservations": [{"name": "r", "size": "1M"}]},
            "kexec_metadata": {"previous_release": "7.3.0"},
            "kho_test": {"folios": [["0x40000000", 2]]},
        }
    ],
}


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every place of a document; of long lists the first two entries."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, item in value.items():
            yield from paths(item, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value[:2]):
            yield from paths(item, (*path, index))


ODD = st.one_of(
    st.sampled_from(
        [None, True, False, -1, 0, 1, 7, 4096, 1 << 31, 1 << 40, 1 << 63, 1 << 64, 1 << 300, 1.5, float("nan"), "", "x"]
    ),
    st.sampled_from(["0x", "0x5", "0x1000", "64M", "a\0b", "\ud800", "\udcff", "\u202e", "0" * 100, "0000:01:00.0"]),
    st.sampled_from(
        ["intact", "absent", "stale", "chunks", "radix", "kho-v1", "kho-v2", "luo-v2", "luo-v1", "memfd-v1"]
    ),
    st.sampled_from(["pci-v1-nr", "pci-version-1", "pci-v2-u32", "pci-lu-v1-12", "memfd-pre-merge", "iommu-v1"]),
    st.recursive(
        st.sampled_from([None, 5, "y", [], {}]),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)),
        max_leaves=4,
    ),
)


@st.composite
def hostile(draw: st.DrawFn, whole: Json) -> Json:
    made = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        places = list(paths(made))
        place, value = draw(st.sampled_from(places)), draw(st.one_of(ODD, st.just(MISSING)))
        put(made, place, value)
        if not isinstance(made.get("handovers"), list):
            break
    return made


def small() -> Json:
    """A real document that is cheap to copy: few folios."""
    full = document("7.3-a/finished")
    full["handovers"] = [entry for entry in full["handovers"] if entry["preserved"]["status"] == "intact"]
    return full


@settings(max_examples=400, phases=[Phase.explicit, Phase.generate])
@given(st.data())
def test_hostile_documents_are_refused(data: st.DataObject) -> None:
    made = data.draw(hostile(small()))
    try:
        state = from_document(made)
        to_document(state, full=True)
        write(state)
    except UsageError as error:
        assert str(error).isprintable()


@settings(max_examples=600, phases=[Phase.explicit, Phase.generate])
@given(hostile(SHORT), st.sampled_from(["6.17", "6.18", "6.19", "7.1", "7.3"]))
def test_hostile_descriptions_are_refused(made: Json, kernel: str) -> None:
    try:
        write(from_document(complete(made, kernel=kernel)))
    except UsageError as error:
        assert str(error).isprintable()
