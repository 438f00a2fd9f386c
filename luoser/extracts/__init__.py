# SPDX-License-Identifier: MIT
"""Writes parts of a source to files: a small core of its handovers, one memfd, or one node."""
