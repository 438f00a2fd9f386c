# SPDX-License-Identifier: MIT
"""`luoser rules`: the rules of `luoser check`."""

from __future__ import annotations

import click

from luoser.cli import complete
from luoser.cli.common import echo_json, format_option

__all__ = ["command"]


@click.command("rules")
@click.argument("names", nargs=-1, metavar="[RULE]...", shell_complete=complete.rules)
@format_option("text", "json")
def command(names: tuple[str, ...], output: str) -> None:
    """List the rules of `luoser check`, or explain those with a given id, slug or family.

    \b
      luoser rules
      luoser rules PCI003 token-duplicate MAP
    """
    from luoser.checks import rules
    from luoser.checks.rule import known_names, unknown_rule
    from luoser.render.findings import print_rule, print_rules, rules_document

    for name in names:
        if name not in known_names():
            raise unknown_rule(name)
    chosen = [rule for rule in rules() if rule.is_meant(names, ())]
    if output == "json":
        echo_json(rules_document(chosen))
    elif names:
        for rule in chosen:
            print_rule(rule)
    else:
        print_rules(chosen)
