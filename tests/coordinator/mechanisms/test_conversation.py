"""Rules of every conversation, on the smallest mechanism there is: groups name a price until the sum of what they take fits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import pytest

from coordinator.mechanisms.conversation import ConversationError, Step, converse


@dataclass(frozen=True)
class Auction:
    """Raise the price until no more than `supply` is taken; the outcome is the price and what each takes."""

    groups: tuple[str, ...]
    supply: float

    def begin(self) -> Step[float, float, tuple[float, dict[str, float]]]:
        return self._ask(0.0)

    def hear(self, state: float, responses: Mapping[str, float]) -> Step[float, float, tuple[float, dict[str, float]]]:
        if sum(responses.values()) <= self.supply:
            return Step(state=state, signals={}, outcome=(state, dict(responses)))
        return self._ask(state + 1.0)

    def flaw(self, group: str, response: float) -> str | None:
        return None if math.isfinite(response) and response >= 0.0 else f"answered {response}"

    def without(self, groups: frozenset[str]) -> Self:
        return replace(self, groups=tuple(group for group in self.groups if group not in groups))

    def _ask(self, price: float) -> Step[float, float, tuple[float, dict[str, float]]]:
        return Step(state=price, signals=dict.fromkeys(self.groups, price))


@dataclass
class Buyer:
    """Takes what is left of a need after the price; falls silent or raves after some rounds."""

    need: float
    silent_after: int = 10**9
    raves: bool = False
    heard: int = 0

    def respond(self, signal: float, /) -> float | None:
        self.heard += 1
        if self.heard > self.silent_after:
            return float("nan") if self.raves else None
        return max(0.0, self.need - signal)


def test_a_conversation_ends_with_its_outcome_and_counts_its_messages() -> None:
    talk = converse(Auction(groups=("a", "b"), supply=4.0), {"a": Buyer(5.0), "b": Buyer(3.0)}, max_rounds=50)
    assert talk.outcome == (2.0, {"a": 3.0, "b": 1.0})
    assert (talk.rounds, talk.messages, talk.left_out) == (3, 12, {})


def test_a_group_that_falls_silent_is_left_out_and_named_not_counted_as_zero() -> None:
    talk = converse(Auction(groups=("a", "b"), supply=4.0), {"a": Buyer(5.0), "b": Buyer(3.0, silent_after=1)}, max_rounds=50)
    assert talk.outcome == (1.0, {"a": 4.0})
    assert talk.left_out == {"b": "did not answer"}


def test_a_group_that_raves_is_left_out_and_named() -> None:
    said: list[str] = []
    responders = {"a": Buyer(5.0), "b": Buyer(3.0, silent_after=1, raves=True)}
    talk = converse(Auction(groups=("a", "b"), supply=4.0), responders, max_rounds=50, say=said.append)
    assert talk.outcome == (1.0, {"a": 4.0})
    assert talk.left_out == {"b": "answered nan"}
    assert said == ["left out: b: answered nan"]


def test_groups_that_fail_one_after_the_other_are_all_named() -> None:
    responders = {"a": Buyer(9.0), "b": Buyer(3.0, silent_after=1), "c": Buyer(4.0, silent_after=3, raves=True)}
    talk = converse(Auction(groups=("a", "b", "c"), supply=4.0), responders, max_rounds=50)
    assert talk.left_out == {"b": "did not answer", "c": "answered nan"}
    assert talk.outcome == (5.0, {"a": 4.0})


def test_a_group_with_nobody_behind_it_is_left_out() -> None:
    talk = converse(Auction(groups=("a", "b"), supply=9.0), {"a": Buyer(5.0)}, max_rounds=50)
    assert talk.outcome == (0.0, {"a": 5.0})
    assert talk.left_out == {"b": "there is nobody to ask"}


def test_a_conversation_that_does_not_settle_has_no_outcome() -> None:
    talk = converse(Auction(groups=("a",), supply=0.0), {"a": Buyer(100.0)}, max_rounds=7)
    assert talk.outcome is None
    assert talk.rounds == 7


def test_nobody_left_is_an_error() -> None:
    with pytest.raises(ConversationError, match="no group is left to talk to: a: did not answer"):
        converse(Auction(groups=("a",), supply=1.0), {"a": Buyer(1.0, silent_after=0)}, max_rounds=7)
