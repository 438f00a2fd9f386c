# SPDX-License-Identifier: MIT
"""What sessions hand over, as parts of a state document for `luoser.writer`."""

from __future__ import annotations

from typing import Any

from luoser.abi.release import RELEASES
from luoser.abi.vmalloc import VM_ALLOC
from luoser.liveupdate.memory import PAGE_SIZE
from luoser.liveupdate.sessions.luo import File, Luo, Session
from luoser.liveupdate.sessions.memfd import MemfdFiles
from luoser.liveupdate.sessions.pci import PciCore
from luoser.liveupdate.sessions.table import Table
from luoser.liveupdate.sessions.vfio import VfioFiles
from luoser.text import bdf_text

__all__ = ["list_values", "session_handover"]


def session_handover(luo: Luo, core: PciCore, memfds: MemfdFiles) -> dict[str, Any]:
    """A handover of the state document.

    Before the reboot call nothing is serialised, so it has only the pages that LUO always hands over.

    core:   its list of devices.
    memfds: their descriptors and folios.
    """
    has_sessions = luo.is_serialized
    table = core.table if has_sessions else None
    sessions = luo.outgoing if has_sessions else []
    values: dict[str, Any] = {
        "layout": RELEASES[luo.kernel].luo,
        "address": f"{luo.root:#x}",
        "liveupdate_number": luo.number + 1,
        "sessions": [_session(luo, session, memfds) for session in sessions],
        "session_blocks": _addresses(luo.blocks.blocks if has_sessions else []),
        "flb_area": f"{luo.flb_page:#x}",
        "flbs": [
            {"name": flb.owner.name, "data": f"{flb.data:#x}", "count": flb.count}
            for flb in luo.flbs
            if has_sessions and flb.count
        ],
    }
    if not luo.has_blocks:
        values["session_area"] = f"{luo.area:#x}"
    handover = {
        "compatible": RELEASES[luo.kernel].kho,
        "direction": "outgoing",
        "luo": values,
        "pci": [list_values(table, core.name)] if table is not None else [],
    }
    if handover["compatible"] == "kho-v1" and not has_sessions:  # the map is written by the reboot call
        handover["preserved"] = {"status": "absent"}
    return handover


def _addresses(pages: list[int]) -> list[str]:
    return [f"{page:#x}" for page in pages]


def _session(luo: Luo, session: Session, memfds: MemfdFiles) -> dict[str, Any]:
    blocks = session.blocks.blocks if luo.has_blocks else [session.area] if session.area else []
    files = [_file(file, memfds) for file in session.files]
    return {"name": session.name, "files": files, "blocks": _addresses(blocks if files else [])}


def _file(file: File, memfds: MemfdFiles) -> dict[str, Any]:
    handler = file.handler
    values: dict[str, Any] = {
        "compatible": handler.compatible,
        "token": f"{file.token:#x}",
        "data": f"{file.data:#x}",
    }
    if isinstance(handler, VfioFiles):
        reading = {"layout": handler.core.series.vfio.layout, "fields": handler.read(file.data)}
        return {**values, "detail": {"address": f"{file.data:#x}", "readings": [reading]}}
    area = memfds.areas[file.data]
    request = area.request
    folios = {
        "list": [[index, f"{area.folios + index * PAGE_SIZE:#x}", 3] for index in range(area.count)],
        "pages": _addresses(area.array),
        "chunks": _addresses(area.chunks),
        "flags": VM_ALLOC if area.count else 0,
    }
    memfd = {
        "address": f"{file.data:#x}",
        "size": f"{request.size:#x}",
        "position": f"{request.position:#x}",
        "seals": request.seals if memfds.has_seals else None,
        "folios": folios,
    }
    return {**values, "memfd": memfd}


def list_values(table: Table, flb: str) -> dict[str, Any]:
    """A list of devices of the state document, with the current contents of memory.

    Entries of finished devices have a refcount of 0.

    flb: name of the FLB through which the list is found.
    """
    devices = []
    for slot, (domain, bdf, refcount) in enumerate(table.rows()):
        if domain or bdf or refcount:
            count = {"refcount": refcount} if "refcount" in table.form.record.record_fields else {}
            devices.append({"index": slot, "bdf": bdf_text(domain, bdf), **count})
    header = {table.form.count: table.count}
    if table.form.capacity is not None:
        header[table.form.capacity] = table.room
    return {
        "layout": table.form.name,
        "address": f"{table.address:#x}",
        "via": [f"flb:{flb}"],
        "devices": devices,
        "slots": table.slots,
        "blocks": _addresses(table.blocks.blocks),
        "header": header,
    }
