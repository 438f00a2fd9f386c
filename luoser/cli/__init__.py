# SPDX-License-Identifier: MIT
"""The commands: one module each, imported when it is run."""
