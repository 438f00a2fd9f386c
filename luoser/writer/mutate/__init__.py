# SPDX-License-Identifier: MIT
"""Mutations: deliberately wrong goldens, by the rule that they break."""

import luoser.writer.mutate.block
import luoser.writer.mutate.handler
import luoser.writer.mutate.kexec_metadata
import luoser.writer.mutate.kho
import luoser.writer.mutate.kho_test
import luoser.writer.mutate.luo
import luoser.writer.mutate.memblock
import luoser.writer.mutate.memfd
import luoser.writer.mutate.pci
import luoser.writer.mutate.preserved
import luoser.writer.mutate.scratch
import luoser.writer.mutate.vmalloc  # noqa: F401 - importing them registers their mutations
from luoser.writer.mutate.model import Cannot, Mutation, mutations

__all__ = ["Cannot", "Mutation", "mutations"]
