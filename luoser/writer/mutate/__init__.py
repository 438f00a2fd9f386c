# SPDX-License-Identifier: MIT
"""Goldens that are wrong on purpose, by the rule that they break."""

import luoser.writer.mutate.kho
import luoser.writer.mutate.luo
import luoser.writer.mutate.memfd
import luoser.writer.mutate.pci
import luoser.writer.mutate.preserved  # noqa: F401 - their mutations enter themselves
from luoser.writer.mutate.model import Cannot, Mutation, mutations

__all__ = ["Cannot", "Mutation", "mutations"]
