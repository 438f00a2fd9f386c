# SPDX-License-Identifier: MIT
"""Every real dump against what the kernels themselves said while they ran."""

from __future__ import annotations

import re
import struct
from collections import Counter
from typing import Any

import pytest

from luoser.state import Direction, Handover, PciList, Reservation
from tests import real

SIX_FIELDS = ("index", "bdf", "path", "flags", "driver_data")
NO_LUO = ("6.18-a",)
"""Cases whose kernel had no LUO sessions."""

# -- which boot of a case a dump belongs to --

BOOTS = {"pre": 0, "frozen": 0, "post": 1, "finished": 1, "frozen2": 1}
WITH_INCOMING = [name for name in real.DUMPS if BOOTS[name.split("/")[1]] == 1]


def boot_of(name: str) -> dict[str, Any]:
    case, moment = name.split("/")
    return real.truth(case)[BOOTS[moment]]


def handover(name: str, direction: Direction) -> Handover:
    (found,) = (entry for entry in real.read(name).handovers if entry.direction is direction)
    return found


def outgoing(name: str) -> Handover:
    return handover(name, Direction.OUTGOING)


def incoming(name: str) -> Handover:
    return handover(name, Direction.INCOMING)


# -- PCI entries --


def logged_lists() -> list[Any]:
    found = []
    for name in real.DUMPS:
        moment = name.split("/")[1]
        if moment in ("pre", "frozen", "frozen2") and boot_of(name)["pci_entries"]:
            found.append(pytest.param(name, boot_of(name)["pci_entries"], id=name))
    return found


def as_logged(entry: PciList) -> list[dict[str, Any]]:
    return [
        {
            "index": device.index,
            "bdf": device.name,
            **{key: device.number(key) for key in ("path", "flags", "driver_data")},
        }
        for device in entry.devices
    ]


@pytest.mark.parametrize(("name", "logged"), logged_lists())
def test_pci_entries_are_those_that_the_kernel_logged(name: str, logged: list[dict[str, Any]]) -> None:
    (found,) = (entry for entry in outgoing(name).pci if entry.layout == "pci-lu-v2-03")
    assert as_logged(found) == [{key: entry[key] for key in SIX_FIELDS} for entry in logged]


def test_pci_entries_were_logged_for_every_case_with_a_list() -> None:
    assert {param.id for param in logged_lists()} == {
        "6.18-a/pre", "6.18-a/frozen", "7.3-a/pre", "7.3-a/frozen", "7.3-chain/frozen", "7.3-chain/frozen2",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["6.18-a/post", "7.3-a/post", "7.3-a/finished", "7.3-chain/post", "7.3-chain/frozen2"])
def test_pci_entries_outlive_the_jump(name: str) -> None:
    """The next kernel leaves the folio alone, even where it freed the map."""
    logged = real.truth(name.split("/")[0])[0]["pci_entries"]
    (found,) = (entry for entry in incoming(name).pci if entry.layout == "pci-lu-v2-03")
    assert as_logged(found) == [{key: entry[key] for key in SIX_FIELDS} for entry in logged]


@pytest.mark.parametrize("name", [param.id for param in logged_lists()])
def test_every_preserved_device_is_in_the_kernels_own_topology(name: str) -> None:
    there = {device["bdf"] for device in boot_of(name)["pci"]}
    assert {device.name for entry in outgoing(name).pci for device in entry.devices} <= there


# -- debugfs --


def blobs(name: str, way: str) -> dict[str, bytes]:
    """Blobs of debugfs, by sub-tree name; the root as an empty name."""
    found = {}
    for file, content in boot_of(name)["debugfs"].items():
        if file.startswith(f"{way}/") and "scratch" not in file:
            found[file.removeprefix(f"{way}/").removeprefix("sub_fdts/").replace("fdt", "")] = bytes.fromhex(content)
    return found


def addresses(entry: Handover) -> dict[str, int]:
    named = {subtree.name: subtree.address for subtree in entry.subtrees}
    return {"": entry.address} | {name: address for name, address in named.items() if address is not None}


@pytest.mark.parametrize("name", [name for name in real.DUMPS if name.endswith("/pre")])
def test_outgoing_blobs_are_the_bytes_at_the_addresses_found(name: str) -> None:
    """debugfs cuts out/fdt short on 6.19 and later, so it is compared as far as it goes."""
    said, found = blobs(name, "out"), addresses(outgoing(name))
    assert set(said) == set(found)
    for label, blob in said.items():
        assert blob == real.dump(name).read(found[label], len(blob)), label or "root"


@pytest.mark.parametrize("name", [name for name in real.DUMPS if name.endswith("/post")])
def test_incoming_blobs_are_the_bytes_at_the_addresses_found(name: str) -> None:
    said, found = blobs(name, "in"), addresses(incoming(name))
    assert set(said) == set(found)
    for label, blob in said.items():
        if label == "LUO" and not blob.startswith((b"luo-v", b"\xd0\x0d\xfe\xed")):
            continue  # the kernel frees this page once it has read it and still shows it: any bytes
        assert blob == real.dump(name).read(found[label], len(blob)), label or "root"


@pytest.mark.parametrize("name", [name for name in real.DUMPS if name.endswith("/post")])
def test_the_next_kernels_own_blobs_are_the_bytes_at_the_addresses_found(name: str) -> None:
    """What the kernel that was handed a state prepares for its own successor.

    debugfs was read a little later than memory: a sub-tree can have come in between, and none can have gone.
    """
    said = blobs(name, "out")
    if not said:
        pytest.skip("this kernel makes its root only when it hands over")
    found = addresses(outgoing(name))
    assert set(found) - {""} <= set(said)
    for label in set(said) & set(found):
        assert said[label] == real.dump(name).read(found[label], len(said[label])), label


@pytest.mark.parametrize("name", [name for name in real.DUMPS if name.endswith(("/pre", "/post"))])
def test_sub_trees_keep_the_size_that_debugfs_gives(name: str) -> None:
    way = "in" if name.endswith("/post") else "out"
    entry = incoming(name) if way == "in" else outgoing(name)
    for label, blob in blobs(name, way).items():
        size = next((subtree.size for subtree in entry.subtrees if subtree.name == label), None)
        if size is not None:
            assert size == len(blob), label


# -- kexec-metadata, memblock, kho_test --


@pytest.mark.parametrize("name", [name for name in real.DUMPS if name.startswith("7.")])
def test_kexec_metadata_is_that_of_the_blob(name: str) -> None:
    way, entry = ("in", incoming(name)) if name in WITH_INCOMING else ("out", outgoing(name))
    version, release, count = struct.unpack("<I65sI", blobs(name, way)["kexec-metadata"])
    metadata = entry.kexec_metadata
    assert metadata is not None
    assert (metadata.version, metadata.kexec_count) == (version, count)
    assert metadata.previous_release.encode() == release.rstrip(b"\0")


@pytest.mark.parametrize("name", [name for name in WITH_INCOMING if name.startswith("7.")])
def test_release_and_count_are_those_that_the_next_kernel_logged(name: str) -> None:
    metadata = incoming(name).kexec_metadata
    assert metadata is not None
    line = f"KHO: exec from: {metadata.previous_release} (count {metadata.kexec_count})"
    assert line in boot_of(name)["log"]


@pytest.mark.parametrize("name", [name for name in WITH_INCOMING if not name.startswith(NO_LUO) and "/post" in name])
def test_liveupdate_number_is_the_one_that_the_next_kernel_logged(name: str) -> None:
    luo = incoming(name).luo
    said = [match[1] for line in boot_of(name)["log"] if (match := re.search(r"liveupdate number: (\d+)", line))]
    assert said
    if luo is not None:
        assert str(luo.number) in said


def ram(name: str) -> list[tuple[int, int]]:
    lines = (line.partition(" : ") for line in boot_of(name)["iomem"])
    ends = ([int(end, 16) for end in line.split("-")] for line, _, what in lines if what == "System RAM")
    return [(start, end + 1) for start, end in ends]


def labmem(name: str) -> set[Reservation]:
    return {
        reservation
        for entry in real.read(name).handovers
        if entry.memblock is not None
        for reservation in entry.memblock.reservations
    }


@pytest.mark.parametrize("name", real.DUMPS)
def test_reservation_lies_in_ram(name: str) -> None:
    (reservation,) = labmem(name)
    assert reservation.name == "labmem"
    assert reservation.size == 1 << 20
    assert any(start <= reservation.start and reservation.start + reservation.size <= end for start, end in ram(name))


@pytest.mark.parametrize("case", real.CASES)
def test_reservation_is_the_same_before_and_after(case: str) -> None:
    found = [labmem(name) for name in real.DUMPS if name.startswith(f"{case}/")]
    assert all(entry == found[0] for entry in found)


# -- scratch, setup_data --


def scratch(boot: dict[str, Any]) -> list[tuple[int, int]]:
    numbers = ([int(line, 16) for line in boot["debugfs"][f"out/scratch_{what}"].split()] for what in ("phys", "len"))
    return list(zip(*numbers, strict=True))


@pytest.mark.parametrize("name", WITH_INCOMING)
def test_scratch_areas_are_those_of_debugfs(name: str) -> None:
    found = incoming(name).scratch
    assert found is not None
    assert [(area.address, area.size) for area in found] == scratch(boot_of(name))


@pytest.mark.parametrize("name", WITH_INCOMING)
def test_scratch_areas_lie_in_ram(name: str) -> None:
    for area in incoming(name).scratch or ():
        assert any(start <= area.address and area.address + area.size <= end for start, end in ram(name))


@pytest.mark.parametrize("name", WITH_INCOMING)
def test_setup_data_names_the_incoming_root(name: str) -> None:
    (payload,) = (bytes.fromhex(node["data"]) for node in boot_of(name)["setup_data"] if node["type"] == 10)
    root, page, array, size = struct.unpack("<4Q", payload)
    entry = incoming(name)
    assert (root, page) == (entry.address, 4096)
    assert size == 16 * len(scratch(boot_of(name)))
    assert any(f"scratch array at {array:#x}" in word for word in entry.evidence)


@pytest.mark.parametrize("name", real.DUMPS)
def test_preserved_memory_lies_in_ram(name: str) -> None:
    for entry in real.read(name).handovers:
        for address, order, count in entry.preserved.map.extents() if entry.preserved.map else ():
            end = address + count * (4096 << order)
            assert any(start <= address and end <= stop for start, stop in ram(name)), hex(address)


@pytest.mark.parametrize("name", real.DUMPS)
def test_no_preserved_memory_lies_in_scratch(name: str) -> None:
    for entry in real.read(name).handovers:
        for address, order, count in entry.preserved.map.extents() if entry.preserved.map else ():
            end = address + count * (4096 << order)
            assert not any(address < start + size and start < end for start, size in scratch(boot_of(name)))


# -- sessions --


@pytest.mark.parametrize(
    "name", [name for name in real.DUMPS if name.endswith(("/frozen", "/frozen2")) and not name.startswith(NO_LUO)]
)
def test_tokens_are_those_that_were_preserved(name: str) -> None:
    luo = outgoing(name).luo
    assert luo is not None
    assert Counter(file.token for session in luo.sessions for file in session.files) == Counter(
        boot_of(name)["preserved_files"]
    )


@pytest.mark.parametrize("name", ["6.19-a/frozen", "7.3-a/frozen", "7.3-chain/frozen", "7.3-chain/frozen2"])
def test_pages_of_preserved_files_hold_what_their_writer_put_there(name: str) -> None:
    """Each written page starts with `memfd NAME offset HEX`, which ties address, index and file together."""
    luo = outgoing(name).luo
    assert luo is not None
    seen = 0
    for session in luo.sessions:
        for file in session.files:
            for folio in file.memfd.folios.list if file.memfd else ():
                if real.dump(name).page_state(folio.address) == "present":
                    head = real.dump(name).read(folio.address, 4096).split(b"\0", 1)[0]
                    match = re.fullmatch(rb"memfd (\S+) offset ([0-9a-f]+)", head)
                    assert match and int(match[2], 16) == 4096 * folio.index
                    seen += 1
    assert seen > 10


@pytest.mark.parametrize("name", [param.id for param in logged_lists()])
def test_driver_pages_hold_what_the_driver_put_there(name: str) -> None:
    (found,) = (entry for entry in outgoing(name).pci if entry.layout == "pci-lu-v2-03")
    pages = [(device.name, device.number("driver_data")) for device in found.devices if device.number("driver_data")]
    assert pages
    for bdf, address in pages:
        assert address is not None
        if name == "7.3-a/pre" and real.dump(name).page_state(address) == "absent":
            continue  # the cut of this moment has no driver pages
        assert real.dump(name).read(address, 64).startswith(f"lab driver state of {bdf}".encode())
