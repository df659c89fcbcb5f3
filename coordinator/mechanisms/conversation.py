"""What every clearing mechanism is: a conversation of signals and aggregate responses, repeated until it is settled.

A *mechanism* sends a signal to each of its groups, hears one response from each, and answers with new signals or with an outcome. A group
is what answers as one: an energy community at a bus, a region with its aggregator, or all households whose encrypted answers are summed.
Nothing about transport, encryption or time is in a mechanism, so the same object runs in a study and live.

Rules:

* A mechanism is a value: `hear` returns the next step and changes nothing.
* All groups hear the same round before anybody is heard again; the order in which responses arrive has no effect.
* A group that does not answer, or answers what `flaw` names, is left out: the conversation begins again without it and the outcome says so.
  It is never replaced by zeros inside a running conversation. What being left out means is the mechanism's to say (`without`).
* A conversation that is not settled after `max_rounds` has no outcome, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from coordinator.errors import CoordinatorError

StateT = TypeVar("StateT")
SignalT = TypeVar("SignalT")
ResponseT = TypeVar("ResponseT")
OutcomeT = TypeVar("OutcomeT")
SignalIn = TypeVar("SignalIn", contravariant=True)
ResponseIn = TypeVar("ResponseIn", contravariant=True)
ResponseOut = TypeVar("ResponseOut", covariant=True)


class ConversationError(CoordinatorError):
    """A conversation cannot take place: nobody is left, or what it is about contradicts itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[StateT, SignalT, OutcomeT]):
    """Where a conversation stands: signals to send, or, once it is settled, the outcome."""

    state: StateT
    signals: Mapping[str, SignalT]
    outcome: OutcomeT | None = None


class Mechanism(Protocol[StateT, SignalT, ResponseIn, OutcomeT]):
    """One mechanism with the groups that it talks to."""

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups, in a fixed order."""
        ...

    def begin(self) -> Step[StateT, SignalT, OutcomeT]:
        """The first signals."""
        ...

    def hear(self, state: StateT, responses: Mapping[str, ResponseIn]) -> Step[StateT, SignalT, OutcomeT]:
        """The next signals, or the outcome, once every group has answered."""
        ...

    def flaw(self, group: str, response: ResponseIn) -> str | None:
        """What is wrong with a response, or None."""
        ...

    def without(self, groups: frozenset[str]) -> Self:
        """The same mechanism for the other groups."""
        ...


class Responder(Protocol[SignalIn, ResponseOut]):
    """Whatever answers a group's signals; None means that it did not answer."""

    def respond(self, signal: SignalIn, /) -> ResponseOut | None:
        """The best response to a signal."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk(Generic[OutcomeT]):
    """How a conversation went. `outcome` is None where it was not settled in time; `left_out` says which groups are not in it, and why."""

    outcome: OutcomeT | None
    rounds: int
    messages: int
    left_out: Mapping[str, str]


def converse(
    mechanism: Mechanism[StateT, SignalT, ResponseT, OutcomeT],
    responders: Mapping[str, Responder[SignalT, ResponseT]],
    *,
    max_rounds: int,
    say: Callable[[str], None] = lambda words: None,
) -> Talk[OutcomeT]:
    """Hold a whole conversation with responders in this process."""
    left_out = {group: "there is nobody to ask" for group in mechanism.groups if group not in responders}
    rounds = messages = 0
    while True:
        if left_out:
            mechanism = mechanism.without(frozenset(left_out).intersection(mechanism.groups))
        if not mechanism.groups:
            raise ConversationError("no group is left to talk to: " + "; ".join(f"{name}: {why}" for name, why in left_out.items()))
        step = mechanism.begin()
        flaws: dict[str, str] = {}
        while step.outcome is None and rounds < max_rounds and not flaws:
            rounds += 1
            responses, flaws = _ask(mechanism, responders, step.signals)
            messages += len(step.signals) + len(responses)
            if not flaws:
                step = mechanism.hear(step.state, responses)
        if not flaws:
            return Talk(outcome=step.outcome, rounds=rounds, messages=messages, left_out=left_out)
        say("left out: " + "; ".join(f"{name}: {why}" for name, why in flaws.items()))
        left_out |= flaws


def _ask(
    mechanism: Mechanism[StateT, SignalT, ResponseT, OutcomeT],
    responders: Mapping[str, Responder[SignalT, ResponseT]],
    signals: Mapping[str, SignalT],
) -> tuple[dict[str, ResponseT], dict[str, str]]:
    """One response from every group, and what is wrong with those that are not usable."""
    responses: dict[str, ResponseT] = {}
    flaws: dict[str, str] = {}
    for group, signal in signals.items():
        response = responders[group].respond(signal)
        flaw = "did not answer" if response is None else mechanism.flaw(group, response)
        if flaw is not None:
            flaws[group] = flaw
        elif response is not None:
            responses[group] = response
    return responses, flaws
