# SPDX-License-Identifier: MIT
"""Golden blobs as C source for a kernel tree: the bytes alone, or with a KUnit suite, or with a kselftest.

`luoser.abi.blob_structs` finds the structs in the bytes.
"""

from __future__ import annotations

from collections.abc import Callable

from luoser.writer.golden.c_array import c_array
from luoser.writer.golden.declarations import declarations
from luoser.writer.golden.kselftest import kselftest
from luoser.writer.golden.kunit import kunit

__all__ = ["C_FORMATS", "c_array", "declarations", "kselftest", "kunit"]

C_FORMATS: dict[str, Callable[..., str]] = {"c": c_array, "kunit": kunit, "kselftest": kselftest}
"""Generator of each C format of `luoser build --format`."""
