"""What the operator can observe of its members without seeing any of their power, and the reputations that follow. Pure.

Three things, each as a share of an interval of a quarter of an hour (`protocols.reputation`; Li et al. 2026, section 4.4):

- uptime: the time in which the member's newest status, or the broker's last will in its name, was not `offline`;
- communication: of the controls that were sent to it and began, those that it said it had begun with within `ANSWER_S`. A control that
  was replaced before it began is expected once; while the operator itself was cut off nothing is expected;
- plan adherence: what the member last declared of itself (`AdherenceReport`), because only the house knows its plan and its meter. It
  holds for one window and a half; a member of which nothing newer is known although rounds were opened counts as one that kept to nothing.

Proven breaches are strikes (`convictions`). Reputations are frozen into an epoch when it begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from protocols.messages import AdherenceReport, ControlResponse, EnvelopeControl, ResponseStatus
from protocols.reputation import Observation, Reputation, observe, strike, trusted_frac

INTERVAL_S: Final = 900.0
ANSWER_S: Final = 60.0
DECLARED_S: Final = 1.5 * 6 * 3600.0


class _Seen(Struct):
    online: bool = False
    since_s: float = 0.0
    online_s: float = 0.0
    expected: dict[float, set[str]] = {}
    begun: int = 0
    answered: int = 0
    adhered_frac: float | None = None
    declared_s: float = 0.0
    covered_s: float = 0.0


class StandingBook:
    """Reputations of all members by name."""

    def __init__(self, members: Iterable[str], now_s: float) -> None:
        self._reputations = {name: Reputation(time_s=now_s) for name in members}
        self._seen = {name: _Seen(since_s=now_s, declared_s=now_s) for name in self._reputations}
        self._begun_s = now_s

    def seen(self, name: str, online: bool, now_s: float) -> None:
        """The member's newest status."""
        seen = self._seen.get(name)
        if seen is not None:
            self._count(seen, now_s)
            seen.online = online

    def told(self, name: str, controls: Iterable[EnvelopeControl]) -> None:
        """These controls were sent to the member."""
        seen = self._seen.get(name)
        if seen is not None:
            for control in controls:
                seen.expected.setdefault(control.start_s, set()).add(control.mrid)

    def responded(self, response: ControlResponse, now_s: float) -> None:
        """The member said what became of a control."""
        seen = self._seen.get(response.sender)
        if seen is None or response.status is not ResponseStatus.STARTED:
            return
        start_s = next((start_s for start_s, mrids in seen.expected.items() if response.mrid in mrids), None)
        if start_s is not None and start_s - ANSWER_S <= now_s:
            del seen.expected[start_s]
            seen.begun += 1
            seen.answered += now_s <= start_s + ANSWER_S

    def declared(self, report: AdherenceReport, now_s: float) -> None:
        """The member said how well it kept to what it reported. A declaration of the same time, or of an earlier one, changes nothing."""
        seen = self._seen.get(report.sender)
        if seen is not None and report.from_s + report.duration_s > seen.covered_s and report.kept <= report.intervals:
            seen.covered_s = report.from_s + report.duration_s
            seen.adhered_frac, seen.declared_s = report.kept / report.intervals, now_s

    def convicted(self, name: str, now_s: float) -> None:
        """A breach of the protocol was proven of the member."""
        if name in self._reputations:
            self._reputations[name] = strike(self._reputations[name], now_s)

    def cut_off(self, now_s: float) -> None:
        """The operator has no connection: controls that begin now cannot be answered, and answers do not arrive."""
        for seen in self._seen.values():
            for start_s in [start_s for start_s in seen.expected if start_s <= now_s]:
                del seen.expected[start_s]

    def step(self, now_s: float, *, rounds_opened: bool) -> None:
        """Close the interval when it is full. `rounds_opened` says that the community has been reporting."""
        for seen in self._seen.values():
            for start_s in [start_s for start_s in seen.expected if start_s + ANSWER_S < now_s]:
                del seen.expected[start_s]
                seen.begun += 1
        duration_s = now_s - self._begun_s
        if duration_s < INTERVAL_S:
            return
        for name, seen in self._seen.items():
            self._count(seen, now_s)
            silent = now_s - seen.declared_s > DECLARED_S
            adhered_frac = (0.0 if rounds_opened else None) if silent else seen.adhered_frac
            observation = Observation(
                time_s=now_s,
                duration_s=duration_s,
                online_frac=min(seen.online_s / duration_s, 1.0),
                adhered_frac=adhered_frac,
                delivered_frac=seen.answered / seen.begun if seen.begun > 0 else None,
            )
            self._reputations[name] = observe(self._reputations[name], observation)
            seen.online_s = 0.0
            seen.begun = seen.answered = 0
        self._begun_s = now_s

    def reputation(self, name: str) -> Reputation:
        """All that is known of the member at present."""
        return self._reputations[name]

    def value(self, name: str) -> float:
        """The member's reputation at present, as an epoch says it."""
        return trusted_frac(self._reputations[name])

    def save(self) -> str:
        """The reputations, for the operator's disk."""
        return msgspec.json.encode(self._reputations).decode()

    def restore(self, text: str) -> None:
        """Take back what `save` gave, for members that are still there."""
        known: Mapping[str, Reputation] = msgspec.json.decode(text, type=dict[str, Reputation])
        self._reputations.update({name: reputation for name, reputation in known.items() if name in self._reputations})

    @staticmethod
    def _count(seen: _Seen, now_s: float) -> None:
        if seen.online:
            seen.online_s += max(now_s - seen.since_s, 0.0)
        seen.since_s = now_s
