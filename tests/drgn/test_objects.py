# SPDX-License-Identifier: MIT
"""Objects of drgn for sessions, files and pages, against another reader and the state."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser.abi.memfd import memfd_luo_ser_v2
from luoser.drgn import kho_preserved, luo_files, luo_memfd_pages, luo_sessions, memory, state
from luoser.errors import UsageError
from luoser.limits import Limits, limited
from luoser.memory.overlay import Overlay
from luoser.state import Direction, State
from tests import real as dumps
from tests.drgn.programs import Resources, core, custom, drgn, kernel_program, unpacked
from tests.kernel import real

MEMFD = "vm-web-01", 0x1A


@pytest.fixture(scope="module")
def prog() -> Any:
    return kernel_program(real.memory("pre"))


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return core(unpacked(dumps.path("7.3-a/frozen"), tmp_path_factory.mktemp("core")))


# -- the kernel's own lists -------------------------------------------------------------------------------


def test_sessions_and_files_are_those_of_another_reader(prog: Any) -> None:
    walked = real.walked("pre")["outgoing"]["sessions"]
    assert [
        (one.name.string_().decode(), [(int(file.token), int(file.serialized_data)) for file in luo_files(one)])
        for one in luo_sessions(prog)
    ] == [(one["name"], [(int(file["token"], 16), int(file["data"], 16)) for file in one["files"]]) for one in walked]
    assert next(luo_sessions(prog)).type_.type_name() == "struct luo_session *"


def test_before_a_live_update_nothing_is_incoming(prog: Any) -> None:
    assert [*luo_sessions(prog, "incoming")] == []


@pytest.mark.parametrize("side", ["both", "out", "\x1b[31m"])
def test_another_side_is_refused(prog: Any, side: Any) -> None:
    with pytest.raises(UsageError, match="side: expected outgoing or incoming") as raised:
        luo_sessions(prog, side)
    assert "\x1b" not in str(raised.value)


def test_sessions_need_debug_info(frozen: Any) -> None:
    with pytest.raises(UsageError, match=r"luo_session_global: .*drgn -s vmlinux"):
        luo_sessions(frozen)


def test_a_list_of_sessions_that_is_broken_is_an_error_of_drgn() -> None:
    changed, first = Overlay(real.memory("pre")), next(luo_sessions(kernel_program(real.memory("pre"))))
    link = first.list.next.value_()
    changed.write(real.running("pre").space.physical(link + 8), struct.pack("<Q", link))
    with pytest.raises(drgn.helpers.ValidationError, match="prev"):
        [*luo_sessions(kernel_program(changed))]


def test_a_list_of_sessions_is_bounded(prog: Any) -> None:
    with limited(Limits(pending=3)):
        found = luo_sessions(prog)
        assert [next(found) for _ in range(3)]
        with pytest.raises(drgn.helpers.ValidationError, match=r"more than 3 items; --limit pending=N"):
            next(found)


# -- pages of memfds --------------------------------------------------------------------------------------


def memfds(here: State) -> list[tuple[str, int, Any, Any]]:
    (handover,) = here.handovers
    assert handover.luo is not None
    return [
        (session.name, file.token, file.memfd, handover.preserved.map)
        for session in handover.luo.sessions
        for file in session.files
        if file.memfd is not None
    ]


def test_pages_are_those_of_the_folios(frozen: Any) -> None:
    sizes = list[int]()
    for name, token, memfd, found in memfds(dumps.read("7.3-a/frozen")):
        pages = dict(luo_memfd_pages(frozen, name, token))
        wanted = {
            index + skip: address + 4096 * skip
            for index, address, _ in memfd.folios.list.rows()
            for skip in range(1 << found.head(address))
            if index + skip < -(-memfd.size // 4096)
        }
        assert pages == wanted
        sizes.append(len(pages))
    assert max(sizes) == 16384 and len(sizes) > 60


def test_pages_have_the_bytes_of_the_file(frozen: Any, tmp_path: Path) -> None:
    with memory(frozen) as source:
        luoser.extract(source, tmp_path / "file", memfd="vm-web-01/0x1b")
        data, pages = (tmp_path / "file").read_bytes(), [*luo_memfd_pages(frozen, "vm-web-01", 0x1B)]
        assert pages
        for index, page in pages:
            assert isinstance(page, int)
            assert source.read(page, 4096)[: len(data) - 4096 * index] == data[4096 * index : 4096 * index + 4096]


def test_a_session_may_be_given_as_an_object() -> None:
    prog = kernel_program(real.memory("pre"))
    prog.cache["luoser"] = real.read("frozen")  # in `pre` there are no descriptors
    for session in luo_sessions(prog):
        name = session.name.string_().decode()
        for file in luo_files(session):
            assert [*luo_memfd_pages(prog, session, file.token)] == [*luo_memfd_pages(prog, name, int(file.token))]


def test_a_session_may_be_named_in_bytes(frozen: Any) -> None:
    assert [*luo_memfd_pages(frozen, b"vm-web-01", 0x1B)] == [*luo_memfd_pages(frozen, "vm-web-01", 0x1B)]


def test_pages_of_another_machine_are_given_only_for_its_root() -> None:
    """Those of a guest have other addresses, those of an earlier boot other owners."""
    prog, found = custom(dumps.dump("7.3-a/frozen")), dumps.read("7.3-a/frozen")
    (one,) = found.handovers
    prog.cache["luoser"] = replace(found, handovers=(replace(one, own=False),))
    with pytest.raises(UsageError, match="no such file"):
        luo_memfd_pages(prog, "vm-web-01", 0x1B)
    assert [*luo_memfd_pages(prog, "vm-web-01", 0x1B, root=one.address)]


@pytest.mark.parametrize(("name", "token"), [("no", 0x1A), ("vm-web-01", 0x99), ("\x1b[31m", 1)])
def test_a_memfd_that_is_not_there_is_an_error(frozen: Any, name: str, token: int) -> None:
    with pytest.raises(UsageError, match=f"/{token:#x}: no such file") as raised:
        luo_memfd_pages(frozen, name, token)
    assert "\x1b" not in str(raised.value)


def test_a_file_whose_descriptor_is_not_read_is_an_error() -> None:
    prog = kernel_program(real.memory("pre"))
    prog.cache["luoser"] = real.read("pre")  # its descriptors are not in there
    with pytest.raises(UsageError, match=r"vm-web-01/0x1a: its descriptor is of another handler, or cannot be read"):
        luo_memfd_pages(prog, "vm-web-01", 0x1A)


def test_a_root_that_does_not_hand_it_over_is_an_error(frozen: Any) -> None:
    with pytest.raises(UsageError, match="no such file"):
        luo_memfd_pages(frozen, "vm-web-01", 0x1A, root=0x1000)


def changed(*, size: int | None = None, has_map: bool = True) -> Any:
    """A program of a dump with another size of a memfd, or without the first page of its map."""
    overlay, handover = dumps.overlay("7.3-a/frozen"), dumps.read("7.3-a/frozen").handovers[0]
    memfd = next(one for name, token, one, _ in memfds(dumps.read("7.3-a/frozen")) if (name, token) == MEMFD)
    if size is not None:
        fields = memfd_luo_ser_v2.parse(overlay.read(memfd.address, memfd_luo_ser_v2.size))
        overlay.write(memfd.address, memfd_luo_ser_v2.build({**fields, "size": size}))
    if not has_map:
        overlay.remove(handover.preserved.address)
    prog = custom(overlay)
    prog.cache["luoser"] = luoser.read(overlay)
    return prog


def test_the_size_of_a_memfd_is_bounded() -> None:
    with pytest.raises(UsageError, match="memfd_size"):
        luo_memfd_pages(changed(size=1 << 50), "vm-web-01", 0x1A)


def test_without_a_map_the_size_of_folios_is_not_known() -> None:
    with pytest.raises(UsageError, match=r"the map is .*: the size of its folios is not known"):
        luo_memfd_pages(changed(has_map=False), "vm-web-01", 0x1A)


# -- preserved pages --------------------------------------------------------------------------------------


def test_pages_of_the_map_are_preserved(frozen: Any) -> None:
    found = dumps.read("7.3-a/frozen").handovers[0].preserved.map
    assert found is not None
    for address, order, count in [*found.extents()][:20]:
        assert kho_preserved(frozen, address) and kho_preserved(frozen, address + 4095)
        end = address + count * (4096 << order)
        assert kho_preserved(frozen, end) is found.covers(end, 1)
    assert not kho_preserved(frozen, 1 << 45)
    assert kho_preserved(frozen, drgn.Object(frozen, frozen.int_type("u64", 8, False), value=address))


def test_a_page_of_a_map_that_is_not_known_is_not_said_to_be_free() -> None:
    prog = changed(has_map=False)
    with pytest.raises(UsageError, match=r"0x1000: not known whether it is preserved: the map of the .* is missing$"):
        kho_preserved(prog, 0x1000)


@pytest.mark.parametrize("name", ["6.18-a/frozen", "6.19-a/frozen"])
def test_pages_of_an_older_map_are_preserved(name: str) -> None:
    prog = custom(dumps.dump(name))
    prog.cache["luoser"] = dumps.read(name)
    found = dumps.read(name).handovers[0].preserved.map
    assert found is not None
    assert kho_preserved(prog, next(found.extents())[0]) and not kho_preserved(prog, 1 << 45)


def test_what_a_stale_map_named_may_still_be_kept() -> None:
    prog = custom(dumps.dump("7.3-a/finished"))
    prog.cache["luoser"] = dumps.read("7.3-a/finished")
    with pytest.raises(UsageError, match=r"the map of the incoming root .* is stale; root=ADDRESS asks one root only"):
        kho_preserved(prog, 1 << 45)
    (outgoing,) = [one for one in dumps.read("7.3-a/finished").handovers if one.direction is Direction.OUTGOING]
    assert outgoing.preserved.map is not None
    assert kho_preserved(prog, next(outgoing.preserved.map.extents())[0])
    assert not kho_preserved(prog, 1 << 45, root=outgoing.address)


def test_no_root_is_an_error(frozen: Any) -> None:
    with pytest.raises(UsageError, match="no KHO root at 0x1000"):
        kho_preserved(frozen, 0x1000, root=0x1000)


# -- the state --------------------------------------------------------------------------------------------


def test_the_state_of_a_dump_is_read_once(frozen: Any) -> None:
    assert state(frozen) is state(frozen)
    assert state(frozen, contents=True) is not state(frozen)
    assert state(frozen).handovers == dumps.read("7.3-a/frozen").handovers


def test_the_state_of_a_machine_is_read_each_time() -> None:
    prog = kernel_program(Resources().cover(), live=True)
    assert state(prog) is not state(prog)
    assert state(prog).handovers == real.read("pre").handovers
