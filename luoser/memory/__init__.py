# SPDX-License-Identifier: MIT
"""Bytes by physical address: one module per dump format or live source."""
