# SPDX-License-Identifier: MIT
"""The orchestrator of today: sessions of preserved files, and FLBs that live as long as files need them."""
