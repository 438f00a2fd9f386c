# SPDX-License-Identifier: MIT
"""`luoser` and `python -m luoser`: where a start begins."""

import sys

__all__ = ["main"]


def main() -> None:
    """As `luoser.cli.main.main`. An interrupt while it is loaded is one line, too."""
    try:
        from luoser.cli.main import main as run
    except KeyboardInterrupt:
        print("luoser: interrupted", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
