# SPDX-License-Identifier: MIT
"""Parts of a source as files of their own: a core of its handover, one memfd, one node."""
