"""The operator's side of a mechanism held live: whom to ask what next, and what was agreed. Chooses, and sends nothing.

The rules of `coordinator.mechanisms.conversation` hold: all nodes hear the same round before anybody is heard again; a node that does not
answer in time, or answers what the mechanism finds a flaw in, is left out, and the conversation begins again without it. A node takes part
whose newest plan is known, because it answers from it. Nodes that are left out keep planning for themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from coordinator.market.assembly import HeldMechanism
from coordinator.market.settings import MarketSection
from coordinator.market.wire import Heading, Outcome, Response, Signal, ask_of, closing_ask, response_of
from coordinator.mechanisms.conversation import ConversationError, Step
from protocols.messages import MarketAnswer, MarketAsk

PLANS_TRUSTED_S = 1800.0
FEWEST = 2
"""A mechanism needs somebody to agree with somebody."""

Maker = Callable[[tuple[str, ...], float], HeldMechanism]


class Concluded(Struct, frozen=True, kw_only=True, eq=False):
    """How one negotiation ended. `outcome` is None where nothing was agreed, and `refusal` says why where it is not for want of rounds;
    `mechanism` is that of the nodes that stayed to the end, None where there was none for the nodes that are there.
    """

    number: int
    start_s: float
    mechanism: HeldMechanism | None
    outcome: Outcome | None
    rounds: int
    messages: int
    left_out: Mapping[str, str]
    refusal: str | None = None


@dataclass(slots=True, kw_only=True)
class _Talk:
    """One negotiation under way; `answers` are those of the present round."""

    number: int
    start_s: float
    mechanism: HeldMechanism
    step: Step[Any, Signal, Any]
    asked_s: float
    rounds: int = 0
    messages: int = 0
    answers: dict[str, Response] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


class MarketDesk:
    """See the module. `make` builds the mechanism for some nodes from a time on; `sequence` numbers messages."""

    def __init__(self, section: MarketSection, nodes: tuple[str, ...], make: Maker, sequence: Callable[[], int]) -> None:
        self._section = section
        self._nodes = nodes
        self._make = make
        self._sequence = sequence
        self._planned_s: dict[str, float] = {}
        self._due_s = float("-inf")
        self._talk: _Talk | None = None
        self._concluded: list[Concluded] = []
        self.latest: Concluded | None = None
        self.agreed: Concluded | None = None
        """The newest negotiation that ended in an agreement."""

    def planned(self, node: str, now_s: float) -> None:
        """A node has told its plan, so it can answer."""
        self._planned_s[node] = now_s

    def take(self, answer: MarketAnswer) -> None:
        """One authenticated answer; one to another round than the present is nobody's."""
        talk = self._talk
        if talk is not None and (answer.negotiation, answer.round) == (talk.number, talk.rounds) and answer.sender in talk.step.signals:
            talk.answers.setdefault(answer.sender, response_of(answer, talk.step.signals[answer.sender]))
            talk.messages += 1

    def take_concluded(self) -> list[Concluded]:
        """What has ended since the last call."""
        concluded, self._concluded = self._concluded, []
        return concluded

    def step(self, now_s: float) -> list[MarketAsk]:
        """What to ask now, node by node."""
        talk = self._talk
        if talk is None:
            return self._open(now_s)
        if talk.step.signals.keys() - talk.answers.keys() and now_s - talk.asked_s < self._section.patience_s:
            return []
        flaws = {name: "did not answer in time" for name in talk.step.signals if name not in talk.answers}
        for name, response in talk.answers.items():
            flaw = talk.mechanism.flaw(name, response)
            if flaw is not None:
                flaws[name] = flaw
        talk.left_out |= flaws
        if len(talk.mechanism.groups) - len(flaws) < FEWEST:
            return self._close(talk, None, now_s)
        try:
            if flaws:
                talk.mechanism = talk.mechanism.without(frozenset(flaws))
                talk.step = talk.mechanism.begin()
            else:
                talk.step = talk.mechanism.hear(talk.step.state, talk.answers)
        except ConversationError as error:
            return self._close(talk, None, now_s, str(error))
        if talk.step.outcome is not None or talk.rounds + 1 >= self._section.rounds_max:
            return self._close(talk, talk.step.outcome, now_s)
        return self._ask(talk, now_s)

    def _open(self, now_s: float) -> list[MarketAsk]:
        names = tuple(name for name in self._nodes if now_s - self._planned_s.get(name, float("-inf")) <= PLANS_TRUSTED_S)
        if now_s < self._due_s or len(names) < FEWEST:
            return []
        self._due_s = (now_s // self._section.period_s + 1.0) * self._section.period_s
        start_s = now_s // self._section.step_s * self._section.step_s
        left_out = {name: "no plan of it is known" for name in self._nodes if name not in names}
        try:
            mechanism = self._make(names, start_s)
        except ConversationError as error:
            self._conclude(
                Concluded(
                    number=int(now_s),
                    start_s=start_s,
                    mechanism=None,
                    outcome=None,
                    rounds=0,
                    messages=0,
                    left_out=left_out,
                    refusal=str(error),
                )
            )
            return []
        left_out |= {name: "the mechanism has no place for it" for name in names if name not in mechanism.groups}
        self._talk = _Talk(
            number=int(now_s), start_s=start_s, mechanism=mechanism, step=mechanism.begin(), asked_s=now_s, rounds=-1, left_out=left_out
        )
        return self._ask(self._talk, now_s)

    def _ask(self, talk: _Talk, now_s: float) -> list[MarketAsk]:
        talk.rounds += 1
        talk.asked_s = now_s
        talk.answers = {}
        talk.messages += len(talk.step.signals)
        heading = self._heading(talk, now_s)
        return [ask_of(heading, name, self._sequence(), signal) for name, signal in talk.step.signals.items()]

    def _close(self, talk: _Talk, outcome: Outcome | None, now_s: float, refusal: str | None = None) -> list[MarketAsk]:
        """Tell everybody who was asked how it ended; whoever was left out plans by its own tariff again."""
        self._talk = None
        heading = self._heading(talk, now_s)
        asks = [
            closing_ask(heading, name, self._sequence(), outcome, place, float(talk.step.state.weight))
            for place, name in enumerate(talk.mechanism.groups)
        ]
        concluded = Concluded(
            number=talk.number,
            start_s=talk.start_s,
            mechanism=talk.mechanism,
            outcome=outcome,
            rounds=talk.rounds + 1,
            messages=talk.messages + len(asks),
            left_out=talk.left_out,
            refusal=refusal,
        )
        self._conclude(concluded)
        return asks

    def _conclude(self, concluded: Concluded) -> None:
        self.latest = concluded
        if concluded.outcome is not None:
            self.agreed = concluded
        self._concluded.append(concluded)

    def _heading(self, talk: _Talk, now_s: float) -> Heading:
        return Heading(
            mechanism=self._section.mechanism,
            negotiation=talk.number,
            round=max(talk.rounds, 0),
            start_s=talk.start_s,
            step_s=self._section.step_s,
            time_s=now_s,
        )
