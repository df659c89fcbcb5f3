"""What the bench writes down of a community while a run lasts, and the named invariants that follow from it.

- `one_leader_per_term`: no term has two leaders, in whatever certificate passes over the broker and in whoever acts;
- `sums_exact_or_refused`: every sum that the coordinator opened is, watt by watt, the sum of what a group of that size reported;
- `no_plaintext`: no telemetry, plan, forecast or flexibility passes over the broker, nor three reported values in a row;
- `no_actuation_under_an_old_term`: no home answers a call, nor obeys a relayed control, under a lower term than it knew before;
- `negotiation_replays`: every signal of a negotiation follows from its terms and the sums before it;
- `negotiated_limit_held`: sums that were agreed lie inside the limits of the feeder.
"""

from __future__ import annotations

from typing import Final

from coordinator.aggregation.bargain import Bargain
from hil.checkers import CheckResult, Tally
from protocols.aggregation.member import round_order
from protocols.bus import BusMessage
from protocols.messages import CommunitySignal

CONFIDENTIAL: Final = ("telemetry", "plan", "forecast", "flexibility")


class Ledger:
    """Everything that the checkers need to know of a run."""

    def __init__(self) -> None:
        self.said: dict[str, dict[str, list[int]]] = {}
        self.leaders: dict[int, str] = {}
        self.terms: dict[str, int] = {}
        self.one_leader = Tally("one_leader_per_term")
        self.exact = Tally("sums_exact_or_refused")
        self.plaintext = Tally("no_plaintext")
        self.old_term = Tally("no_actuation_under_an_old_term")
        self.replayed = Tally("negotiation_replays")
        self.held = Tally("negotiated_limit_held")
        self.signals: dict[tuple[int, int], CommunitySignal] = {}
        self._negotiated: set[int] = set()

    def leads(self, term: int, name: str) -> None:
        """Somebody acts as the leader of a term, or is certified as it."""
        if self.leaders.setdefault(term, name) == name:
            self.one_leader.passed()
        else:
            self.one_leader.violated(f"term {term}: {self.leaders[term]} and {name}")

    def reported(self, name: str, round_name: str, values: list[int]) -> None:
        """A house answers a call."""
        self.said.setdefault(round_name, {})[name] = values
        while len(self.said) > 24:
            del self.said[next(iter(self.said))]
        term = round_order(round_name)[0]
        if term < self.terms.get(name, 0):
            self.old_term.violated(f"{name} answered round {round_name} after term {self.terms[name]}")
        else:
            self.old_term.passed()
        self.terms[name] = max(term, self.terms.get(name, 0))

    def published(self, message: BusMessage) -> None:
        """A home put this on the broker."""
        self.plaintext.passed()
        if "/node/" in message.topic and message.topic.rpartition("/")[2] in CONFIDENTIAL:
            self.plaintext.add_violation(f"{message.topic} left a house")
            return
        newest = next(reversed(self.said.values()), {})
        for name, values in newest.items():
            row = ",".join(str(value) for value in values[:3])
            if any(values[:3]) and (row.encode() in message.payload or row.replace(",", ".0,").encode() in message.payload):
                self.plaintext.add_violation(f"{message.topic} shows what {name} plans")

    def signalled(self, signal: CommunitySignal) -> None:
        """The coordinator told the community this."""
        self.signals[signal.negotiation, signal.iteration] = signal

    def negotiated(self, bargain: Bargain) -> None:
        """Compute a negotiation that has ended again from its sums, once, and hold what was agreed against the feeder's limits."""
        transcript, state = bargain.transcript, bargain.state
        if transcript is None or state is None or not state.final or transcript.number in self._negotiated:
            return
        last = self.signals.get((transcript.number, state.iteration))
        if last is None:
            return
        self._negotiated.add(transcript.number)
        for again in transcript.states():
            told = self.signals.get((transcript.number, again.iteration))
            if told is None or (told.price_per_kwh == tuple(again.price_per_kwh) and told.excess_w == tuple(again.excess_w)):
                self.replayed.passed()
            else:
                self.replayed.violated(f"negotiation {transcript.number}: signal {again.iteration} does not follow from the sums")
        import_w, export_w = bargain.limits_w
        sums_w = transcript.answers[-1][0]
        if not state.agreed:
            self.held.excuse("not agreed within the iterations: members keep to their tariff")
        elif max(sums_w) > import_w or -min(sums_w) > export_w:
            found = f"{min(sums_w)} to {max(sums_w)} W, feeder -{export_w:.0f} to {import_w:.0f} W"
            self.held.violated(f"negotiation {transcript.number}: {found}")
        else:
            self.held.passed()

    def results(self) -> list[CheckResult]:
        """What was found."""
        tallies = (self.one_leader, self.exact, self.plaintext, self.old_term, self.replayed, self.held)
        return [tally.result() for tally in tallies]
