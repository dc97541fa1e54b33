"""Dispatching rules: which of the waiting jobs an empty machine takes.

A rule is a decision object as a learned policy is one; given to `simulate`, it runs in the compiled core instead, with
the same result. Priorities use the planned durations. Ties go to the job with the lower number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pathloom.plan import InputError
from pathloom.worlds.shop.online import _floor_state as state
from pathloom.worlds.shop.online._rule_kernels import choose

if TYPE_CHECKING:
    from pathloom.worlds.shop.online.floor import View

RULES: dict[str, int] = {
    "SPT": state.SPT,
    "LPT": state.LPT,
    "MWKR": state.MWKR,
    "LWKR": state.LWKR,
    "MOR": state.MOR,
    "LOR": state.LOR,
    "FIFO": state.FIFO,
    "LIFO": state.LIFO,
    "FDD": state.FDD,
    "FDD/MWKR": state.FDD_MWKR,
    "RANDOM": state.RANDOM,
}
"""Rule to its number in the compiled core."""

MEANING: dict[str, str] = {
    "SPT": "shortest operation first",
    "LPT": "longest operation first",
    "MWKR": "most work of the job remaining, with this operation",
    "LWKR": "least work of the job remaining",
    "MOR": "most operations of the job remaining",
    "LOR": "fewest operations of the job remaining",
    "FIFO": "waiting for the longest time",
    "LIFO": "waiting for the shortest time",
    "FDD": "earliest flow due date: arrival plus the work up to and with this operation",
    "FDD/MWKR": "smallest quotient of flow due date and work remaining",
    "RANDOM": "drawn anew at every decision, from the seed of the run",
}


@dataclass(frozen=True)
class Rule:
    """A dispatching rule by name, as a decision object."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in RULES:
            raise InputError(f"is '{self.name}', expected one of {', '.join(RULES)}", key="rule")

    @property
    def number(self) -> int:
        """Number in the compiled core."""
        return RULES[self.name]

    def decide(self, view: View) -> int:
        """The candidate that the rule prefers; a rule never holds a machine empty."""
        return int(choose(view.run, self.number, view.machine))
