# SPDX-License-Identifier: MIT
"""The wire layouts: one module per subject, as in include/linux/kho/abi of the kernel; pure, no I/O."""
