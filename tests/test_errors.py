# SPDX-License-Identifier: MIT
"""Errors between processes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import copy, deepcopy

import pytest

from luoser.errors import LimitError, MissingMemory, PageState


@pytest.mark.parametrize("error", [MissingMemory(0x1234, PageState.DAMAGED), LimitError(0x1234, "not read")])
@pytest.mark.parametrize("again", [copy, deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_missing_memory_can_be_pickled_and_copied(
    error: MissingMemory, again: Callable[[MissingMemory], MissingMemory]
) -> None:
    found = again(error)
    assert type(found) is type(error) and str(found) == str(error)
    assert (found.address, found.page, found.state) == (0x1234, 0x1000, error.state)
