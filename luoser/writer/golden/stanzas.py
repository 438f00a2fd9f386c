# SPDX-License-Identifier: MIT
"""The lines by which a kernel's build knows a KUnit suite or a kselftest."""

from __future__ import annotations

from textwrap import wrap

from luoser.abi.registry import Layout
from luoser.writer.golden.source import WIDTH

__all__ = ["config_of", "kconfig", "makefile", "program"]

_HELP_WIDTH = 70
_MORE = (
    "For more information on KUnit and unit tests in general, please refer to the KUnit documentation in "
    "Documentation/dev-tools/kunit/."
)


def config_of(name: str) -> str:
    """The configuration symbol of a suite. name: of the suite."""
    return f"{name.upper()}_KUNIT_TEST"


def makefile(name: str) -> list[str]:
    """The line of a Makefile, in two if it is too long. name: of the suite, whose file is NAME_kunit.c."""
    start, end = f"obj-$(CONFIG_{config_of(name)}) +=", f"{name}_kunit.o"
    return [f"{start} {end}"] if len(start + end) < WIDTH else [f"{start} \\", f"\t{end}"]


def program(name: str) -> str:
    """The line of a Makefile for a kselftest."""
    return f"TEST_GEN_PROGS += {name}"


def kconfig(name: str, layout: Layout, *, depends: str = "") -> list[str]:
    """The lines of a Kconfig.

    name:    of the suite.
    depends: further condition. Empty: none.
    """
    about = (
        f"This builds unit tests for what one kernel hands over to the next as {layout.name}: sizes and offsets of "
        "its structs, and the members of a blob of known bytes."
    )
    return [
        f"config {config_of(name)}",
        f'\ttristate "KUnit test of {layout.name}" if !KUNIT_ALL_TESTS',
        "\tdepends on KUNIT" + (f" && {depends}" if depends else ""),
        "\tdefault KUNIT_ALL_TESTS",
        "\thelp",
        *_help(about),
        "",
        *_help(_MORE),
        "",
        *_help("If unsure, say N."),
    ]


def _help(text: str) -> list[str]:
    return [f"\t  {line}" for line in wrap(text, _HELP_WIDTH)]
