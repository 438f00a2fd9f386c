# SPDX-License-Identifier: MIT
"""Many sources at once: which there are, and work on each in a process of its own, here or on a cluster."""
