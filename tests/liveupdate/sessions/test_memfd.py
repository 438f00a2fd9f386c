# SPDX-License-Identifier: MIT
"""memfds in the model: their pages are those of real kernels, and none is left when they are gone."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from luoser.liveupdate import Failure, SessionMachine, load_scenario, simulate
from luoser.liveupdate.sessions import memfd
from luoser.state import Luo
from tests import real
from tests.liveupdate.images import image
from tests.liveupdate.machines import sessions

PAGE = 4096


def vm(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "vm", "files": [{"memfd": "ram0", **more}]}]


def pages_of(machine: SessionMachine) -> dict[str, int]:
    return {folio.what: folio.count for folio in machine.pages.left() if folio.what.startswith("memfd")}


def test_the_pages_of_a_file() -> None:
    assert pages_of(sessions("prepare", sessions=vm(size=0))) == {"memfd ram0": 1}
    small = {"memfd ram0": 1, "memfd ram0 folios": 3, "memfd ram0 array 0": 1, "memfd ram0 chunk 0": 1}
    assert pages_of(sessions("prepare", sessions=vm(size=2 * PAGE + 1))) == small


def test_a_full_chunk_is_followed_by_one_even_if_that_names_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memfd, "chunk_capacity", lambda size: 2)
    machine = sessions("prepare", sessions=vm(size=2 * 256 * PAGE))
    (area,) = machine.memfds.areas.values()
    assert (len(area.array), len(area.chunks)) == (2, 2)
    words = [struct.unpack("<4Q", machine.pages.read(chunk, 32)) for chunk in area.chunks]
    assert words == [(area.chunks[1], *area.array, 0), (0, 0, 0, 0)]


@pytest.mark.parametrize(("kernel", "seals"), [("7.0", None), ("7.1", 6), ("7.3", 6)])
def test_a_file_is_read_back(kernel: str, seals: int | None) -> None:
    wanted = vm(size="20K", position="0x1234", seals=["SHRINK", "GROW"], bytes="c0ffee", token=26)
    machine = sessions("freeze", kernel=kernel, sessions=wanted)
    luo = image(machine).handovers[0].luo
    assert luo is not None
    (file,) = luo.sessions[0].files
    assert file.memfd is not None
    assert (file.token, file.memfd.size, file.memfd.position, file.memfd.seals) == (26, 0x5000, 0x1234, seals)
    assert [folio.index for folio in file.memfd.folios.list] == [0, 1, 2, 3, 4]
    first = file.memfd.folios.list[0].address
    assert machine.pages.read(first, 4) == b"\xc0\xff\xee\0"


@pytest.mark.parametrize("what", ["memfd ram0", "memfd ram0 folios", "memfd ram0 array 0", "memfd ram0 chunk 0"])
@pytest.mark.parametrize("step", ["allocate", "preserve"])
def test_whatever_fails_leaves_nothing(what: str, step: str) -> None:
    faults = [{"at": step, "folio": what, "errno": "ENOMEM"}]
    machine = sessions("prepare", sessions=vm(size=PAGE), faults=faults)
    assert str(machine.error) == "-ENOMEM"
    assert (machine.leaks(), machine.pages.mistakes) == ([], [])


def test_an_unknown_seal_is_refused() -> None:
    machine = sessions("prepare", sessions=vm(size=PAGE, seals=0x40))
    assert str(machine.error) == "-EOPNOTSUPP"
    assert machine.leaks() == []


def test_a_file_that_is_retrieved_keeps_its_folios_and_nothing_else() -> None:
    machine = sessions("restore", sessions=vm(size="1M"))
    assert pages_of(machine) == {"memfd ram0 folios": 256}
    machine.step("finish")
    assert (machine.leaks(), machine.pages.mistakes) == ([], [])


def test_a_file_that_nobody_retrieves_goes_with_its_session() -> None:
    machine = sessions("restore", sessions=vm(size="1M"), faults=[])
    again = sessions("kexec", sessions=vm(size="1M"))
    again.boot()
    again.luo.take_over(again._root())
    again.luo.open()
    again.luo.finish(again.luo.incoming[0])
    assert machine.pages.mistakes == again.pages.mistakes == []
    assert pages_of(again) == {}


def test_a_handle_of_nothing_cannot_be_retrieved() -> None:
    machine = sessions("kexec", sessions=vm(size=PAGE))
    with pytest.raises(Failure, match="-EINVAL"):
        machine.luo.handlers[0].retrieve(0x5000)


# -- real kernels


def as_scenario(luo: Luo) -> dict[str, Any]:
    """The sessions of a dump, with the places of all that was written for them."""
    places = {"LUO session block 0": luo.session_blocks[0]}
    wanted = []
    for session in luo.sessions:
        files = []
        for block, place in enumerate(session.blocks):
            places[f"file block of {session.name} {block}"] = place
        for file in session.files:
            assert file.memfd is not None
            name, found = f"{session.name} {file.token:#x}", file.memfd
            places |= {f"memfd {name}": found.address}
            places |= {f"memfd {name} chunk {n}": chunk for n, chunk in enumerate(found.folios.chunks)}
            places |= {f"memfd {name} array {n}": page for n, page in enumerate(found.folios.pages)}
            files.append(
                {
                    "memfd": name,
                    "token": file.token,
                    "size": found.size,
                    "position": found.position,
                    "seals": found.seals,
                }
            )
        wanted.append({"name": session.name, "files": files})
    return {"devices": [], "series": "pci-core-v9", "sessions": wanted, "places": places}


@pytest.mark.parametrize("dump", ["7.3-a/frozen", "7.3-chain/frozen"])
def test_sessions_files_and_descriptors_have_the_bytes_of_the_kernels(dump: str) -> None:
    luo = next(handover.luo for handover in real.read(dump).handovers if handover.luo and handover.luo.sessions)
    scenario = load_scenario(as_scenario(luo))
    machine = simulate(scenario, until="freeze")
    assert machine.error is None
    compared = 0
    for what, place in scenario.places.items():
        if "array" in what:
            continue  # the folios lie elsewhere here
        page = bytes(machine.pages.folios[place].data)
        assert page == real.dump(dump).read(place, PAGE), what
        compared += 1
    assert compared > 2 * sum(len(session.files) for session in luo.sessions)
