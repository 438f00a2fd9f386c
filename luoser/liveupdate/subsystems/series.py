# SPDX-License-Identifier: MIT
"""The 2025 series "PCI/LUO" by its patches: RFC v1 of 28 Jul 2025 with 25, v2 of 16 Sep 2025 with 10."""

from __future__ import annotations

from dataclasses import dataclass

from luoser.abi.pci import PciLayout, layout

__all__ = ["SERIES", "Series"]

_PATCHES = {1: 25, 2: 10}
_LAYOUTS = {1: ((4, "04"), (7, "07"), (9, "09"), (12, "12"), (19, "19"), (21, "19-resources"), (22, "22")),
            2: ((3, "03"), (6, "06"))}  # fmt: skip
"""By posting: the first patch that writes a form, and the form."""
_WITHOUT_IOV = ("19-resources", "22")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What is applied of it.

    posting: 1 or 2. patch: the last patch that is applied. has_iov: whether the kernel is configured with SR-IOV,
    which makes the entries of v1 longer from patch 21 on. is_lab: the form of v2 patch 05 as kernels wrote it for
    the dumps that luoser is tested with: with a pcieport that takes part, and LUO's tree in one page.
    """

    posting: int
    patch: int
    has_iov: bool = True
    is_lab: bool = False

    def _is_from(self, v1: int, v2: int) -> bool:
        return self.patch >= (v1 if self.posting == 1 else v2)

    @property
    def form(self) -> PciLayout | None:
        """The layout of the list, None before the patch that writes one."""
        names = [name for patch, name in _LAYOUTS[self.posting] if self.patch >= patch]
        if not names:
            return None
        return layout(
            f"pci-lu-v{self.posting}-{names[-1]}{'-iov' if self.has_iov and names[-1] in _WITHOUT_IOV else ''}"
        )

    @property
    def collects(self) -> bool:
        """Whether prepare builds the list of devices at all."""
        return self._is_from(3, 2)

    @property
    def restores(self) -> bool:
        """Whether the next kernel looks at the list."""
        return self._is_from(5, 4)

    @property
    def finishes(self) -> bool:
        """Whether finish does more than log."""
        return self._is_from(6, 5)

    @property
    def has_names(self) -> bool:
        """Whether entries hold the driver's name, and the next kernel lets only that driver bind."""
        return self._is_from(7, 6)

    @property
    def has_pcieport(self) -> bool:
        """Whether pcieport has its empty table of callbacks. Without it nothing below a port can be prepared."""
        return self.is_lab or self._is_from(8, 7)

    @property
    def has_driver_data(self) -> bool:
        """Whether a driver can ask for its value in its probe."""
        return self.is_lab or self._is_from(10, 8)

    @property
    def marks_all(self) -> bool:
        """Whether what is marked for a child marks what it needs itself: all bridges up to the root, and PFs."""
        return self.posting == 1

    @property
    def keeps_busmaster(self) -> bool:
        """Whether the bus-master bit is left alone while a device is marked."""
        return self.posting == 2 and self.patch >= 9

    @property
    def saved(self) -> frozenset[str]:
        """Members of struct pci_dev that the next kernel takes over from an entry."""
        if self.posting != 1:
            return frozenset()
        return frozenset(name for patch, names in _TAKEN_OVER if self.patch >= patch for name in names)

    @property
    def adopts(self) -> bool:
        """Whether the next kernel does not write to the config space of requested devices until finish."""
        return self.posting == 1 and self.patch >= 20

    @property
    def has_buses(self) -> bool:
        return self.posting == 1 and self.patch >= 19

    @property
    def checks_buses(self) -> bool:
        """Whether the next kernel panics where a device's bus is not as it was."""
        return self.posting == 1 and self.patch >= 23

    @property
    def stubs_check_marks(self) -> bool:
        """Whether pci-lu-stub wants to be asked for, and pci-lu-stub-pf to be depended on."""
        return self.posting == 1 and self.patch >= 24


_TAKEN_OVER = (
    (14, ("current_state",)),
    (15, ("pm_cap", "wakeup_prepared", "skip_bus_pm")),
    (16, ("pme_poll",)),
    (17, ("no_d3cold",)),
    (18, ("broken_intx_masking", "ignore_hotplug", "hotplug_user_indicators", "pref_window", "pref_64_window")),
    (21, ("resource",)),
)

SERIES = {
    **{
        f"pci-lu-v{posting}-{patch:02}": Series(posting=posting, patch=patch)
        for posting, last in _PATCHES.items()
        for patch in range(1, last + 1)
    },
    **{f"pci-lu-v{posting}": Series(posting=posting, patch=last) for posting, last in _PATCHES.items()},
    "lab": Series(posting=2, patch=5, is_lab=True),
}
"""By posting and last patch; without a patch the whole posting."""
