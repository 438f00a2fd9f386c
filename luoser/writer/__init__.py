# SPDX-License-Identifier: MIT
"""State to memory: the bytes of all structures, with the layout of a kernel."""

from luoser.writer.image import Image
from luoser.writer.kho import write

__all__ = ["Image", "write"]
