# SPDX-License-Identifier: MIT
"""What the codes of problems mean."""

from __future__ import annotations

__all__ = ["PROBLEMS"]

PROBLEMS: dict[str, dict[str, str]] = {
    "the source": {
        "source": "odd or broken parts of the dump file, such as segments that overlap",
        "truncated": "the source ends early",
        "missing": "the source has no page of this address, which a structure needs",
        "excluded": "the dump tool left out a page that a structure needs",
        "page-damaged": "a page is stored, but cannot be unpacked",
        "address-doubt": "a raw image of more than 3 GiB has something else where structures at 3 GiB or above "
        "have to be, with every PCI hole that was tried; nothing is judged",
    },
    "the search for roots": {
        "root-lost": "a messenger in scratch (setup_data, `/chosen`), or the kernel's own variable, points to a root "
        "that is not there",
        "root-unread": "a messenger in scratch, or the kernel's own variable, points to a root whose page is not in "
        "the source, or that exceeds a limit",
        "no-root": "the kernel's own variables or boot parameters name a root that is not there",
        "not-searched": "only one root was asked for, and others were not looked for; no verdict is sound",
        "no-own-root": "the running kernel makes a root at boot, but only the incoming one was found",
        "root-copy": "a copy of another root, with the same map; it is ignored",
        "too-many-candidates": "more pages look like a root than are considered; the message names the limit",
        "too-many-roots": "there are more roots than are read; the message names the limit",
        "direction-by-map": "only a stale map shows that the root is incoming",
        "salvage-limit": "--salvage met a limit, or assumed a page size; it hides nothing that pointers lead to",
        "bad-chosen": "a property of `/chosen` has another size than that of an address",
    },
    "the kernel": {
        "symbols": "symbols that cannot be used, or that contradict the memory",
        "symbols-unread": "the symbols that the kernel has in its memory are damaged, or more than a limit allows",
        "types": "the kernel's BTF is not in the source, or contradicts the note of a cut",
        "types-unread": "the kernel's BTF is damaged, or larger than a limit allows",
        "scratch-unread": "what the kernel's own `kho_scratch` points to, or an image to boot with, is not an array of "
        "scratch areas",
        "layout-not-of-this-kernel": "a struct of the layout has another form in the running kernel's own types",
        "layout-own": "as before, but only places differ: it was read by the kernel's own members",
        "pending-unknown": "--pending was given, but the kernel's own lists are not known",
        "pending-unread": "types or pages of the running kernel's objects are missing",
        "pending-broken": "a list of the running kernel contradicts itself",
    },
    "addresses, counts and pages": {
        "bad-pointer": "a value is not the address of a page",
        "pointer-off": "an address is one bit off a page of its kind",
        "pointer-encrypted": "an address contains the bit of memory encryption",
        "loop": "a chain leads back to itself",
        "bad-count": "a count is larger than the pages with the entries allow",
        "short-list": "there are fewer entries or bytes than the count or the layout says",
        "shared-page": "two structures claim the same page",
        "too-many": "a limit was met, and the rest is not read; the message names the limit",
    },
    "the page size": {
        "page-size-guessed": "the page size is not in the source; the map is intact with this one only",
        "page-size-doubt": "the map is intact with one page size only, and another one was given",
    },
    "devicetrees": {
        "kho-version": "a root has an unknown version",
        "no-fdt": "there is no devicetree where one has to be",
        "bad-fdt": "a devicetree is truncated or damaged",
        "bad-subtree": "a child of the root has no address, or the name of another child",
    },
    "the preserved map, and other trees of pages": {
        "no-map": "the root does not name a map",
        "map-unread": "the map, or the page tree of a sub-tree, has a form that luoser does not decode",
        "map-stale": "the next kernel freed and reused the pages of the map",
        "map-damaged": "there is one sign that the map was reused, and two are needed to call it stale",
        "map-garbage": "the first page of the map is not a node",
        "map-node-broken": "a node is impossible, or not a node",
        "map-node-missing": "a node is not in the source",
        "map-too-large": "a limit was met, and the rest of the map is not read",
        "map-width": "bitmaps of kho-v1 fit as 512 bytes and as a page",
    },
    "LUO": {
        "luo-reused": "the page of LUO's root object holds something else",
        "luo-bad-string": "LUO's compatible is not a string followed by zeros",
        "luo-no-number": "LUO's devicetree has no number of the live update",
        "bad-session": "an entry of the list of sessions is not a session",
        "empty-session": "an entry of the list of sessions is all zeros",
        "unnamed-session": "a session has no name",
        "bad-file": "an entry of a list of files is not a file",
        "file-count": "the count in a session and the number of its files differ",
        "bad-flb": "an entry of the list of FLBs is not an FLB",
        "left-over": "there are entries after those that a count includes",
        "zero-flb": "the page of an FLB with a count is all zeros",
    },
    "files and FLBs": {
        "bad-memfd": "the descriptor of a memfd is not one",
        "zero-memfd": "the descriptor of a memfd is all zeros",
        "bad-handler-data": "the data of another handler or FLB fits none of its layouts",
    },
    "device lists": {
        "pci-unknown-layout": "no layout fits, or not the one that was given",
        "pci-fault": "a list contradicts its layout",
        "pci-impossible": "a list has a value that its layout excludes",
        "pci-not-zero": "bytes that have to be zero are not zero",
    },
    "other sub-trees": {
        "bad-memblock": "memblock",
        "bad-metadata": "kexec-metadata",
        "bad-kho-test": "the self-test of KHO",
    },
}
"""What each code of a `Problem` means, by what it is about."""
