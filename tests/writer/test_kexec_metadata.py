# SPDX-License-Identifier: MIT
"""The sub-tree kexec-metadata."""

from __future__ import annotations

import pytest

from luoser.errors import UsageError
from tests.golden import CATALOGUE
from tests.writer.helpers import there_and_back


def test_golden_metadata() -> None:
    state, image, _ = there_and_back({"kexec_metadata": {"previous_release": "7.1.13", "kexec_count": 1}})
    metadata = state.handovers[0].kexec_metadata
    assert metadata is not None
    assert image.read(metadata.address, 73) == CATALOGUE["kexec-metadata.bin"]
    with pytest.raises(UsageError, match="previous_release: 65 bytes, there is room for 64 and a NUL"):
        there_and_back({"kexec_metadata": {"previous_release": "7" * 65}})
    with pytest.raises(UsageError, match="kexec_count: 4294967296 does not fit 4 bytes"):
        there_and_back({"kexec_metadata": {"kexec_count": 1 << 32}})
