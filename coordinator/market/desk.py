"""The operator's side of a mechanism held live: whom to ask what next, and what was agreed. Chooses, and sends nothing.

The rules of `coordinator.mechanisms.conversation` hold: all nodes hear the same round before anybody is heard again; a node that does not
answer in time, or answers what the mechanism finds a flaw in, is left out, and the conversation begins again without it. A node takes part
whose newest plan is known, because it answers from it. Nodes that are left out keep planning for themselves.

`step` may run in a thread while `take` and `planned` are called: what they bring waits until the next step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from msgspec import Struct

from coordinator.errors import CoordinatorError
from coordinator.market.assembly import HeldMechanism
from coordinator.market.settings import MarketSection
from coordinator.market.wire import Heading, Outcome, Response, Signal, ask_of, closing_ask, response_of
from coordinator.mechanisms.conversation import Step
from coordinator.mechanisms.signals import NetResponse
from protocols.messages import MarketAnswer, MarketAsk

PLANS_TRUSTED_S = 1800.0
PLANS_AWAITED_S = 900.0
"""How long a coordinator that was just started waits for plans that it does not know yet, before it begins without them."""
ROUNDING_W = 1.0
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
    """See the module. `nodes` are what the connections of those who may take part carry at most, in watts by name; `make` builds the
    mechanism for some of them from a time on; `sequence` numbers messages.
    """

    def __init__(self, section: MarketSection, nodes: Mapping[str, float], make: Maker, sequence: Callable[[], int]) -> None:
        self._section = section
        self._nodes = nodes
        self._heard: deque[MarketAnswer] = deque()
        self._since_s: float | None = None
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
        self._heard.append(answer)

    def take_concluded(self) -> list[Concluded]:
        """What has ended since the last call."""
        concluded, self._concluded = self._concluded, []
        return concluded

    def step(self, now_s: float) -> list[MarketAsk]:
        """What to ask now, node by node."""
        talk = self._talk
        self._hear(talk)
        if talk is None:
            return self._open(now_s)
        if talk.step.signals.keys() - talk.answers.keys() and now_s - talk.asked_s < self._section.patience_s:
            return []
        flaws = {name: "did not answer in time" for name in talk.step.signals if name not in talk.answers}
        for name, response in talk.answers.items():
            flaw = self._excess(name, response) or talk.mechanism.flaw(name, response)
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
        except CoordinatorError as error:
            return self._close(talk, None, now_s, str(error))
        if talk.step.outcome is not None or talk.rounds + 1 >= self._section.rounds_max:
            return self._close(talk, talk.step.outcome, now_s)
        return self._ask(talk, now_s)

    def _hear(self, talk: _Talk | None) -> None:
        """Sort what has come since the last step."""
        while self._heard:
            answer = self._heard.popleft()
            if talk is None or (answer.negotiation, answer.round) != (talk.number, talk.rounds) or answer.sender not in talk.step.signals:
                continue
            talk.answers.setdefault(answer.sender, response_of(answer, talk.step.signals[answer.sender]))
            talk.messages += 1

    def _excess(self, name: str, response: Response) -> str | None:
        """In words, that an answer is more than the connection of its node carries."""
        answer_w = response.net_w if isinstance(response, NetResponse) else response.wish_w
        largest_w, most_w = float(np.abs(answer_w).max(initial=0.0)), self._nodes[name]
        if largest_w <= most_w + ROUNDING_W:
            return None
        return f"answered {largest_w:.0f} W, more than the {most_w:.0f} W that its connection carries"

    def _open(self, now_s: float) -> list[MarketAsk]:
        since_s = self._since_s = now_s if self._since_s is None else self._since_s
        names = tuple(name for name in self._nodes if now_s - self._planned_s.get(name, float("-inf")) <= PLANS_TRUSTED_S)
        if now_s < self._due_s or len(names) < FEWEST:
            return []
        if len(names) < len(self._nodes) and now_s - since_s < PLANS_AWAITED_S:
            return []
        self._due_s = (now_s // self._section.period_s + 1.0) * self._section.period_s
        start_s = now_s // self._section.step_s * self._section.step_s
        left_out = {name: "no plan of it is known" for name in self._nodes if name not in names}
        try:
            mechanism = self._make(names, start_s)
        except CoordinatorError as error:
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
