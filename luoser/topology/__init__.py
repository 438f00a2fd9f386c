# SPDX-License-Identifier: MIT
"""The PCI devices of a machine and the bridges above them, read from sysfs, the output of lspci, or JSON."""

from luoser.topology.document import from_document, to_document
from luoser.topology.model import Address, Device, Topology
from luoser.topology.open import SYSFS, read_topology

__all__ = ["SYSFS", "Address", "Device", "Topology", "from_document", "read_topology", "to_document"]
