# SPDX-License-Identifier: MIT
"""A kernel in memory, in its own words: virtual addresses, symbols (kallsyms), types (BTF), objects."""
