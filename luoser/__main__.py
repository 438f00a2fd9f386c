# SPDX-License-Identifier: MIT
"""`python -m luoser`."""

from luoser.cli.main import main

main()
