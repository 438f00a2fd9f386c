# SPDX-License-Identifier: MIT
"""Patches of the 2025 series "PCI/LUO": RFC v1 (28 Jul 2025, 25 patches) and v2 (16 Sep 2025, 10 patches)."""

from __future__ import annotations

from dataclasses import dataclass

from luoser.abi.pci import PciLayout, layout

__all__ = ["SERIES", "Series"]

_PATCHES = {1: 25, 2: 10}
_LAYOUTS = {1: ((4, "04"), (7, "07"), (9, "09"), (12, "12"), (19, "19"), (21, "19-resources"), (22, "22")),
            2: ((3, "03"), (6, "06"))}  # fmt: skip
"""By posting: (first patch that writes a layout, end of the layout's name)."""
_WITHOUT_IOV = ("19-resources", "22")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The applied part of the series.

    posting: 1 or 2.
    patch:   the last applied patch.
    has_iov: the kernel is configured with SR-IOV, so that from v1 patch 21 on entries are longer.
    is_lab:  as in the kernels that wrote luoser's test dumps: v2 patch 05, but pcieport has callbacks, and LUO's
             devicetree is in one page.
    """

    posting: int
    patch: int
    has_iov: bool = True
    is_lab: bool = False

    def _is_from(self, v1: int, v2: int) -> bool:
        return self.patch >= (v1 if self.posting == 1 else v2)

    @property
    def form(self) -> PciLayout | None:
        """The layout of the list. None before the patch that writes one."""
        names = [name for patch, name in _LAYOUTS[self.posting] if self.patch >= patch]
        if not names:
            return None
        return layout(
            f"pci-lu-v{self.posting}-{names[-1]}{'-iov' if self.has_iov and names[-1] in _WITHOUT_IOV else ''}"
        )

    @property
    def collects(self) -> bool:
        """Whether prepare builds the list of devices."""
        return self._is_from(3, 2)

    @property
    def restores(self) -> bool:
        """Whether the next kernel reads the list."""
        return self._is_from(5, 4)

    @property
    def finishes(self) -> bool:
        """Whether finish does more than log."""
        return self._is_from(6, 5)

    @property
    def has_names(self) -> bool:
        """Whether entries have the driver's name, and in the next kernel only that driver can bind."""
        return self._is_from(7, 6)

    @property
    def has_pcieport(self) -> bool:
        """Whether pcieport has an empty table of callbacks. Without it no device below a port can be prepared."""
        return self.is_lab or self._is_from(8, 7)

    @property
    def has_driver_data(self) -> bool:
        """Whether a driver can get its driver_data in its probe."""
        return self.is_lab or self._is_from(10, 8)

    @property
    def marks_all(self) -> bool:
        """Whether a device that is marked for a child marks its own parent and PF, so that all up to the root are."""
        return self.posting == 1

    @property
    def keeps_busmaster(self) -> bool:
        """Whether the bus-master bit of a marked device cannot be changed."""
        return self.posting == 2 and self.patch >= 9

    @property
    def saved(self) -> frozenset[str]:
        """Members of struct pci_dev that the next kernel restores from an entry."""
        if self.posting != 1:
            return frozenset()
        return frozenset(name for patch, names in _TAKEN_OVER if self.patch >= patch for name in names)

    @property
    def adopts(self) -> bool:
        """Whether the next kernel does not write to the config space of requested devices until finish."""
        return self.posting == 1 and self.patch >= 20

    @property
    def has_buses(self) -> bool:
        """Whether the list has buses, too."""
        return self.posting == 1 and self.patch >= 19

    @property
    def checks_buses(self) -> bool:
        """Whether the next kernel panics if the bus of a device has changed."""
        return self.posting == 1 and self.patch >= 23

    @property
    def stubs_check_marks(self) -> bool:
        """Whether pci-lu-stub accepts only requested devices, and pci-lu-stub-pf only depended ones."""
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
"""By posting and last patch. Without a patch it is the whole posting."""
