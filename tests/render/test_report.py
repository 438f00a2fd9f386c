# SPDX-License-Identifier: MIT
"""`luoser.render.report`: what the page has, what hostile names do to it, and how it behaves in a browser."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from luoser.changes import NotCompared, compare
from luoser.checks import check
from luoser.limits import Limits, limited
from luoser.render.report import Dump, Dumps, Reported, Saved, nodes, page
from luoser.render.report.devices import device_tree
from luoser.render.report.memory_map import WIDTH, memory_map
from luoser.state import PreservedMap, State, to_document
from luoser.text import safe_text
from luoser.topology import Topology, read_topology
from tests import real
from tests.chromium import Browser, Tab, needs_chromium

DUMP = "7.3-a/frozen"
RAM = ((0x1000, 0x9F000), (0x100000, 0x40000000))
HOSTILE = (
    "<script>window.pwned=1</script>",
    "\"'><img src=x onerror=window.pwned=1>",
    "{{ 7*7 }}{% raw %}",
    "</title></style></script><b>",
    "\u202e\u2066bidi\u200b\x1b[31m\x00\n",
    "javascript:alert(1)",
    "&lt;b&gt;&#x3c;",
    "\udcff\ue000",
)


def topology(case: str = "7.3-a") -> Topology:
    return read_topology(real.REAL / case / "topology.json")


def reported(state: State, *, machine: Topology | None = None, ram: tuple[tuple[int, int], ...] = RAM) -> Reported:
    document = json.dumps(to_document(state, full=True)).encode()
    return Reported(
        state=state,
        report=check(state, topology=machine, ram=ram),
        machine="x86-64",
        ram=ram,
        topology=machine,
        dumps=Dumps(shown=(Dump(where="root", address=0x5CD000, layout="kho-v4", rows=("0x5cd000  d0 0d",)),)),
        saved=Saved(data=gzip.compress(document, mtime=0), what="The state document."),
    )


class Structure(HTMLParser):
    """The tags with the names of their attributes, and the texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.texts: list[str] = []
        self.values: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.values += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def named(name: str) -> tuple[State, Topology]:
    """A real state and topology, all names of which are one."""
    state, machine = real.read(DUMP), topology()
    handover = state.handovers[0]
    luo = handover.luo
    assert luo is not None
    sessions = tuple(
        replace(session, name=name, files=tuple(replace(file, compatible=name) for file in session.files))
        for session in luo.sessions
    )
    changed = replace(
        handover,
        evidence=(safe_text(name),),
        subtrees=tuple(replace(entry, name=name) for entry in handover.subtrees),
        luo=replace(luo, sessions=sessions, flbs=tuple(replace(flb, name=name) for flb in luo.flbs)),
        pci=tuple(replace(devices, via=(name,)) for devices in handover.pci),
    )
    problem = replace(state.problems[0], message=name) if state.problems else None
    source = replace(state.source, path=name, kernel=name)
    devices = {place: replace(device, driver=name) for place, device in machine.devices.items()}
    made = replace(state, source=source, handovers=(changed,), problems=(problem,) if problem else ())
    return made, replace(machine, devices=devices)


@cache
def page_of(name: str) -> str:
    state, machine = named(name)
    given = reported(real.read(DUMP), machine=topology())
    findings = tuple(replace(finding, message=name, hint=name, where=name) for finding in given.report.findings)
    dumps = Dumps(shown=(Dump(where=name, address=1, layout=name, rows=(name,), note=name),), note=name)
    said = replace(given.report, findings=findings, remarks=(name,), not_looked_at=(name,))
    return page([replace(given, state=state, topology=machine, machine=name, dumps=dumps, report=said)])


# -- the page ----------------------------------------------------------------------------------------------


def test_page_has_what_there_is() -> None:
    text = "".join(Structure(page([reported(real.read(DUMP), machine=topology())])).texts)
    for words in (
        "1 error", "TOP003 bridge-chain-incomplete", "A bridge above a device that requested live update",
        "0000:41:00.0", "✗ missing", "vm-batch-002", "0x1013", "memfd-v2", "liveupdate-test-flb-v2", "kho_test",
        "0x5cd000  d0 0d", "kexec-metadata", "7.3.4",
    ):  # fmt: skip
        assert words in text, words


def test_page_is_the_same_each_time() -> None:
    assert page([reported(real.read(DUMP))]) == page([reported(real.read(DUMP))])


def test_policy_allows_this_style_and_this_script_only() -> None:
    text = page([reported(real.read(DUMP))])
    policy = re.search(r'Policy" content="([^"]*)"', text)
    assert policy is not None
    allowed = policy[1].replace("&#39;", "'").replace("&#43;", "+")
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert len(found) == 1
        digest = base64.b64encode(hashlib.sha256(found[0].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in allowed
    assert "default-src 'none'" in allowed and "unsafe" not in allowed


def test_page_refers_to_nothing_outside() -> None:
    values = Structure(page([reported(real.read(DUMP), machine=topology())])).values
    links = [value for name, value in values if name in ("href", "src", "action", "xlink:href")]
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert not [name for name, _ in values if name.startswith("on") or name == "style"]


def test_links_lead_to_parts_of_the_page_and_ids_are_unique() -> None:
    state = real.read(DUMP)
    sources = [reported(state, machine=topology()), reported(real.read("7.3-a/post"), machine=topology())]
    values = Structure(page(sources, compare(state, sources[1].state))).values
    ids = [value for name, value in values if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for name, value in values if name == "href" and value.startswith("#")} <= set(ids)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_change_nothing_but_texts(name: str) -> None:
    plain, made = Structure(page_of("plain")), Structure(page_of(name))
    assert made.tags == plain.tags
    shown = "".join(made.texts)
    assert safe_text(name) in shown
    text = page_of(name)
    assert all(one == "\n" or one.isprintable() for one in text)
    assert not any(ord(one) in range(0x202A, 0x2070) or 0xD800 <= ord(one) < 0xF900 for one in text)


def test_state_inside_is_the_document() -> None:
    state = real.read(DUMP)
    values = Structure(page([reported(state)])).values
    link = next(value for name, value in values if name == "href" and value.startswith("data:application/gzip"))
    assert json.loads(gzip.decompress(base64.b64decode(link.split(",")[1]))) == to_document(state, full=True)


def test_two_sources_have_their_changes() -> None:
    before, after = real.read(DUMP), real.read("7.3-a/post")
    text = "".join(Structure(page([reported(before), reported(after)], compare(before, after))).texts)
    for words in ("progress", "the next kernel freed the map after reading it", "Before:", "After:", "consumed"):
        assert words in text


def test_what_is_left_out_is_said() -> None:
    state = real.read(DUMP)
    with limited(Limits(report_rows=5)):
        text = "".join(Structure(page([reported(state, machine=topology())])).texts)
    assert "5 of 6 sessions and 5 of 64 files are in this page" in text
    assert "the first 5 of 10 devices are shown" in text
    assert re.search(r"\d\d more lines are not in this page", text)


def test_flbs_that_are_left_out_are_said() -> None:
    state = real.read(DUMP)
    handover = state.handovers[0]
    assert handover.luo is not None
    luo = replace(handover.luo, flbs=handover.luo.flbs[:1] * 7)
    with limited(Limits(report_rows=5)):
        text = "".join(Structure(page([reported(replace(state, handovers=(replace(handover, luo=luo),)))])).texts)
    assert "5 of 7 FLBs are in this page" in text


def test_all_devices_are_counted() -> None:
    with limited(Limits(pci_devices=3)):
        text = "".join(Structure(page([reported(real.read(DUMP))])).texts)
    assert re.search(r"\b8\s*PCI devices", text)


def test_what_was_not_compared_is_counted_beside_changes_that_are_left_out() -> None:
    before, after = real.read(DUMP), real.read("7.3-a/post")
    gaps = tuple(NotCompared(where=f"gap {number}", reason="lost") for number in range(9))
    found = replace(compare(before, after), not_compared=gaps)
    with limited(Limits(report_rows=2)):
        text = "".join(Structure(page([reported(before), reported(after)], found)).texts)
    assert "7 things more not compared; the first 2 changes are shown" in text


def test_state_with_pending_objects_shows_them() -> None:
    from tests.kernel.real import read as read_kernel

    state = read_kernel("frozen")
    assert any(handover.pending for handover in state.handovers)
    text = "".join(Structure(page([reported(state)])).texts)
    assert "registered handlers" in text


def test_nodes_have_paths_that_lead_to_them() -> None:
    from luoser.state.where import find_node

    state = real.read("7.3-chain/frozen2")
    found = list(nodes(state))
    assert len({node.address for _, node in found}) == len(found) > 50
    assert all(find_node(state, where) == node for where, node in found)
    assert {"root", "luo"} <= {where.rpartition("].")[2] for where, _ in found}


# -- the memory map ----------------------------------------------------------------------------------------


def test_memory_map_is_to_scale() -> None:
    state = real.read(DUMP)
    found = memory_map(state.handovers[0], RAM, 4096)
    assert found is not None and (found.low, found.high) == (0x1000, 0x40000000)
    for span in found.spans:
        assert span.left >= 0 and span.left + span.width <= WIDTH + 0.01
        if (span.end - span.start) * WIDTH > 2 * (found.high - found.low):
            assert abs(span.width / WIDTH - (span.end - span.start) / (found.high - found.low)) < 1e-4
    by_lane = {lane: [span for span in found.spans if span.lane == lane] for lane in ("RAM", "hole", "preserved")}
    assert [(span.start, span.end) for span in by_lane["RAM"]] == list(RAM)
    assert [(span.start, span.end) for span in by_lane["hole"]] == [(0x9F000, 0x100000)]
    preserved = state.handovers[0].preserved.map
    assert preserved is not None
    assert sum(span.end - span.start for span in by_lane["preserved"]) == preserved.pages * 4096


def test_memory_map_has_scratch_of_a_handover_whose_map_is_stale() -> None:
    state = real.read("7.3-a/post")
    incoming = next(one for one in state.handovers if one.direction.value == "incoming")
    found = memory_map(incoming, (), 4096)
    assert found is not None and {span.lane for span in found.spans} == {"scratch"}
    assert "the preserved map is stale: preserved memory is not drawn" in found.notes
    assert memory_map(replace(incoming, scratch=None), (), 4096) is None


def test_memory_map_of_many_ranges_is_bounded_and_says_so() -> None:
    state = real.read(DUMP)
    handover = state.handovers[0]
    scattered = PreservedMap.from_extents([(place << 13, 0, 1) for place in range(1, 20_000)], page_size=4096)
    many = replace(handover, preserved=replace(handover.preserved, map=scattered))
    found = memory_map(many, (), 4096)
    assert found is not None and len(found.spans) <= 600
    assert [note for note in found.notes if re.fullmatch(r"preserved ranges less than .* apart are drawn as one", note)]
    kept = [span for span in found.spans if span.lane == "preserved"]
    assert kept[0].start == 1 << 13 and kept[-1].end == (19_999 << 13) + 4096
    with limited(Limits(report_extents=5)):
        few = memory_map(many, (), 4096)
    assert few is not None and any("--limit report_extents=N" in note for note in few.notes)
    assert max(span.end for span in few.spans if span.lane == "preserved") <= (20_000 << 13) // 100


# -- the devices -------------------------------------------------------------------------------------------


def test_devices_are_below_their_bridges_and_gaps_are_marked() -> None:
    state, machine = real.read(DUMP), topology()
    findings = check(state, topology=machine).findings
    tree = device_tree(state.handovers[0], machine, findings)
    rows = {row.name: row for row in tree.rows}
    assert [(rows[name].guide, rows[name].state) for name in ("0000:00:02.0", "0000:02:00.0", "0000:04:00.0")] == [
        ("", "missing"), ("└─ ", "missing"), ("      └─ ", "preserved"),
    ]  # fmt: skip
    assert [mark.text for mark in rows["0000:04:00.0"].marks] == ["TOP003 bridge-chain-incomplete"]
    assert findings[rows["0000:00:02.0"].marks[0].number - 1].rule == "TOP003"
    assert set(tree.others) | set(rows) == {device.name for device in machine.devices.values()}
    assert "0000:00:1f.2" in tree.others


def test_devices_without_a_topology_are_listed_flat() -> None:
    tree = device_tree(real.read(DUMP).handovers[0], None, ())
    assert len(tree.rows) == 8 and not any(row.guide for row in tree.rows)
    assert "--topology" in tree.notes[0]


def test_devices_that_the_machine_does_not_have_are_shown() -> None:
    machine = topology()
    few = replace(machine, devices={place: one for place, one in machine.devices.items() if one.name != "0000:41:00.0"})
    rows = {row.name: row.facts for row in device_tree(real.read(DUMP).handovers[0], few, ()).rows}
    assert rows["0000:41:00.0"] == "not in the topology"


# -- in a browser ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a real dump."""
    place = tmp_path_factory.mktemp("report") / "one.html"
    place.write_text(page([reported(real.read(DUMP), machine=topology())]))
    return place


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a real dump before and after the kexec."""
    place = tmp_path_factory.mktemp("report") / "two.html"
    before, after = real.read(DUMP), real.read("7.3-a/post")
    sources = [reported(before, machine=topology()), reported(after, machine=topology())]
    place.write_text(page(sources, compare(before, after)))
    return place


def is_quiet(tab: Tab) -> bool:
    return tab.complaints() == [] and all(url.startswith(("file:", "data:", "blob:")) for url in tab.requests())


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["one", "two"])
def test_page_fits_any_screen(
    browser: Browser, request: pytest.FixtureRequest, name: str, width: int, dark: bool
) -> None:
    tab = browser.tab(width=width, dark=dark)
    tab.open(request.getfixturevalue(name))
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")
    tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")
    colour = tab.run("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", colour))) < 64) == dark
    assert is_quiet(tab)


@needs_chromium
def test_map_is_zoomed_by_click_and_keyboard(browser: Browser, one: Path) -> None:
    tab = browser.tab()
    tab.open(one)
    axis = "document.querySelector('.axis').textContent"
    whole = tab.run(axis)
    tab.click(".legend button")
    assert tab.run("document.querySelector('.legend button').getAttribute('aria-pressed')") == "true"
    assert 0 < tab.run("document.querySelectorAll('svg rect[data-a]:not(.faded)').length") < 60
    tab.click(".legend button")
    tab.click("svg rect.c0:last-of-type, svg rect[data-a].c0")
    assert tab.run(axis) != whole and "MiB" in tab.run("document.querySelector('.status').textContent")
    tab.click("[data-do=all]")
    assert tab.run(axis) == whole
    tab.run("document.querySelector('.frame').focus()")
    tab.press("+")
    nearer = tab.run(axis)
    tab.press("ArrowRight")
    assert len({whole, nearer, tab.run(axis)}) == 3
    tab.press("Escape")
    assert tab.run(axis) == nearer
    tab.press("0")
    assert tab.run(axis) == whole
    tab.run("document.querySelector('.map details').open = true")
    tab.click(".map td button[data-a]")
    assert "RAM" in tab.run("document.querySelector('.status').textContent")
    assert tab.run("document.activeElement.className") == "frame"
    assert is_quiet(tab)


@needs_chromium
def test_search_finds_sessions_and_files(browser: Browser, one: Path) -> None:
    tab = browser.tab()
    tab.open(one)
    tab.click("input[type=search]")
    tab.type("vm-batch 0x1013")
    assert tab.run("document.querySelector('.count').textContent") == "3 sessions, 3 files"
    shown = "[...document.querySelectorAll('.session:not([hidden]) tbody tr:not([hidden])')]"
    assert tab.run(f"{shown}.every((row) => row.textContent.includes('0x1013') && row.offsetHeight > 0)")
    tab.run("document.querySelector('input').select()")
    tab.type("no such thing")
    assert tab.run("document.querySelector('.count').textContent") == "0 sessions, 0 files"
    tab.run("document.querySelector('input').select()")
    tab.press("Backspace")
    tab.run(
        "(() => { const it = document.querySelector('input'); it.value = ''; it.dispatchEvent(new Event('input')) })()"
    )
    assert tab.run("document.querySelectorAll('.session[hidden], tr[hidden]').length") == 0
    assert is_quiet(tab)


@needs_chromium
def test_marks_lead_to_findings_and_the_state_is_saved(browser: Browser, one: Path, tmp_path: Path) -> None:
    tab = browser.tab()
    tab.open(one)
    tab.click(".d-missing .mark")
    assert (
        tab.run("document.querySelector(':target h3').textContent").strip().endswith("TOP003 bridge-chain-incomplete")
    )
    tab.click(":target summary")
    assert tab.run("document.querySelector(':target details').open")
    browser.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path), eventsEnabled=True)
    tab.click("a.save")
    for _ in range(100):
        done = tmp_path / "luoser-state.json"
        if done.exists():
            break
        tab.run("new Promise((done) => setTimeout(done, 100))")
    assert json.loads(done.read_text()) == to_document(real.read(DUMP), full=True)
    assert is_quiet(tab)


@needs_chromium
def test_every_control_is_reached_by_tab_and_has_a_name(browser: Browser, one: Path) -> None:
    tab = browser.tab()
    tab.open(one)
    reached = set[str]()
    for _ in range(60):
        tab.press("Tab")
        what = (
            "((one) => one.getAttribute('data-do') || one.className || one.type || one.tagName)(document.activeElement)"
        )
        reached.add(tab.run(what))
        if "search" in reached:
            break
    assert {"in", "out", "left", "right", "all", "back", "frame", "search", "skip"} <= reached
    tree = tab.ask("Accessibility.getFullAXTree")["nodes"]
    controls: list[dict[str, Any]] = [
        node for node in tree if node.get("role", {}).get("value") in ("button", "link", "searchbox", "img", "region")
    ]
    assert len(controls) > 30 and all(node["name"]["value"].strip() for node in controls)


@needs_chromium
def test_page_works_without_a_script(browser: Browser, one: Path) -> None:
    tab = browser.tab(script=False)
    tab.open(one)
    document = tab.ask("DOM.getDocument")["root"]["nodeId"]

    def is_shown(selector: str) -> bool:
        node = tab.ask("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        tree = tab.ask("Accessibility.getPartialAXTree", nodeId=node, fetchRelatives=False)["nodes"]
        return not tree[0]["ignored"]

    assert is_shown(".map svg") and is_shown("a.save") and is_shown(".d-missing th")
    assert not is_shown("input[type=search]") and not is_shown(".controls")


@needs_chromium
def test_page_can_be_printed(browser: Browser, one: Path) -> None:
    tab = browser.tab(dark=True)
    tab.open(one)
    assert tab.printed().startswith(b"%PDF")
    tab.ask("Emulation.setEmulatedMedia", media="print")
    assert tab.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    tab.run("dispatchEvent(new Event('beforeprint'))")
    assert tab.run("document.querySelectorAll('details.print:not([open])').length") == 0
    tab.run("dispatchEvent(new Event('afterprint'))")
    assert tab.run("document.querySelectorAll('details.print:not([open])').length") > 0


@needs_chromium
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_do_nothing(browser: Browser, tmp_path: Path, name: str) -> None:
    place = tmp_path / "hostile.html"
    place.write_text(page_of(name))
    tab = browser.tab(width=390)
    tab.open(place)
    assert tab.run("window.pwned === undefined")
    assert tab.run("document.querySelectorAll('script').length") == 1
    assert tab.run("document.querySelectorAll('img, iframe, b').length") == 0
    assert safe_text(name) in tab.run("document.querySelector('#source-sessions .s-name').textContent")
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")
    assert is_quiet(tab)
