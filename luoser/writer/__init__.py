# SPDX-License-Identifier: MIT
"""State to memory: the bytes of every structure, laid out as a kernel would."""

from luoser.writer.image import Image
from luoser.writer.kho import write

__all__ = ["Image", "write"]
