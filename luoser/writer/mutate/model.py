# SPDX-License-Identifier: MIT
"""Mutations: deliberately wrong goldens. Each breaks one rule of `luoser check`, and no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from luoser.errors import UsageError
from luoser.state import Handover, State
from luoser.writer.image import Image

__all__ = ["Cannot", "Mutation", "first_handover", "mutation", "mutations"]


class Cannot(UsageError):
    """Raised by a mutation if the state does not have what it breaks. The message says what is expected."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One mutation.

    rule:   id of the rule that it breaks.
    answer: what a kernel should do with such a handover.
    apply:  changes the image of a state.
    """

    rule: str
    answer: str
    apply: Callable[[Image, State], None]


_MUTATIONS: dict[str, Mutation] = {}
_Apply = Callable[[Image, State], None]


def mutation(rule: str, answer: str) -> Callable[[_Apply], _Apply]:
    """A decorator that registers a function as the mutation for a rule.

    rule:   id of the rule.
    answer: what a kernel should do with such a handover.
    """

    def enter(apply: _Apply) -> _Apply:
        assert rule not in _MUTATIONS, rule
        _MUTATIONS[rule] = Mutation(rule, answer, apply)
        return apply

    return enter


def mutations() -> dict[str, Mutation]:
    """All mutations, by the id of the rule that they break."""
    return dict(sorted(_MUTATIONS.items()))


def first_handover(state: State) -> Handover:
    """The handover to break: the outgoing one, else the first. Raises Cannot if there is none."""
    if not state.handovers:
        raise Cannot("expected a state with a handover")
    return next((one for one in state.handovers if one.direction.value == "outgoing"), state.handovers[0])
