# SPDX-License-Identifier: MIT
"""Golden blobs as C source: the bytes alone, a KUnit suite around them, a kselftest around them.

What is written here is text for a kernel tree. The bytes come from elsewhere; where the structs lie in them
says `luoser.abi.blob_structs`.
"""

from __future__ import annotations

from collections.abc import Callable

from luoser.writer.golden.c_array import c_array
from luoser.writer.golden.declarations import declarations
from luoser.writer.golden.kselftest import kselftest
from luoser.writer.golden.kunit import kunit

__all__ = ["C_FORMATS", "c_array", "declarations", "kselftest", "kunit"]

C_FORMATS: dict[str, Callable[..., str]] = {"c": c_array, "kunit": kunit, "kselftest": kselftest}
"""By the name that `luoser build --format` takes."""
