# SPDX-License-Identifier: MIT
"""Goldens that are wrong on purpose: each breaks the rule of `luoser check` that it is named after, and no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from luoser.errors import UsageError
from luoser.state import Handover, State
from luoser.writer.image import Image

__all__ = ["Cannot", "Mutation", "first_handover", "mutation", "mutations"]


class Cannot(UsageError):
    """Raised by a mutation when the state has nothing that it could break; the argument says what is needed."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """rule: id of the rule that it breaks. answer: what a kernel ought to do with such a handover.

    apply: changes the bytes of the image that was made of the state.
    """

    rule: str
    answer: str
    apply: Callable[[Image, State], None]


_MUTATIONS: dict[str, Mutation] = {}
_Apply = Callable[[Image, State], None]


def mutation(rule: str, answer: str) -> Callable[[_Apply], _Apply]:
    """Make a function the mutation for a rule."""

    def enter(apply: _Apply) -> _Apply:
        assert rule not in _MUTATIONS, rule
        _MUTATIONS[rule] = Mutation(rule, answer, apply)
        return apply

    return enter


def mutations() -> dict[str, Mutation]:
    """All of them, by the rule that they break."""
    return dict(sorted(_MUTATIONS.items()))


def first_handover(state: State) -> Handover:
    """The handover to break: the outgoing one, else the first."""
    if not state.handovers:
        raise Cannot("a state without handovers has nothing to break")
    return next((one for one in state.handovers if one.direction.value == "outgoing"), state.handovers[0])
