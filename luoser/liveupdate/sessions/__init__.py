# SPDX-License-Identifier: MIT
"""LUO of 7.0 and later: sessions with preserved files, and FLBs that exist as long as files need them."""
