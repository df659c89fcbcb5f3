"""Whole rounds under faults and lies that are drawn from one seed, together with their rates.

Members, leader, operator and pool of randomisers are the shipped `Member`, `LeaderRound`, `OperatorBook` and `RandomiserPool`; time,
transport and elections are simulated (that a term has one leader is what `hil.simulation.election` shows). Each run draws a community of
4 to 24 members and switches every kind of fault on or off: loss, duplication, delays beyond the deadlines, a broker that replays old
messages, crashes of members, leader and operator, lost disks, pools restored from a backup, new leaders in mid-round, a new key with
rounds in flight, members that lie (`hil.simulation.aggregation_lies`), or a leader that does. `hil.simulation.aggregation_checks` watches.
"""

from __future__ import annotations

import heapq
import shutil
from typing import Final

from hil.scratch import discard
from hil.simulation import aggregation_lies as lies
from hil.simulation.aggregation_checks import Claim, slots_of
from hil.simulation.aggregation_operator import SimulatedOperator
from hil.simulation.aggregation_world import PERIOD_S, Host, Outcome, World
from protocols.aggregation import differencing
from protocols.aggregation.leader import LeaderRound, Phase
from protocols.aggregation.member import check_time, round_order
from protocols.aggregation.messages import Aggregate, Announce, Drops, Receipt, aggregate_digest, unseal_reveal

COLLECT_S: Final = 60.0
STEP_S: Final = 30.0
ROUNDS: Final = 6
CALM_ROUNDS: Final = 3


class Simulation(World):
    """One run. `run` plays it and returns the outcome."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._operator = SimulatedOperator(self.checks, self.faults, self._operators, self._groups)
        self._history: list[frozenset[str]] = []
        self._announced: dict[tuple[str, str], Announce] = {}
        self._steady: dict[str, list[int]] = {}

    def run(self) -> Outcome:
        """Play rounds with faults, then in peace, where everybody who remembers must be in the sum."""
        try:
            for host in self.hosts.values():
                self._boot(host)
            self._elect()
            for number in range(ROUNDS + CALM_ROUNDS):
                self._at(number * PERIOD_S, self._begin)
            self._at((ROUNDS - 0.5) * PERIOD_S, self._heal)
            while self._events:
                self.now_s, _, action = heapq.heappop(self._events)
                action()
        finally:
            for host in self.hosts.values():
                if host.pool is not None:
                    host.pool.close()
            discard(self._folder)
        return self.outcome

    def _begin(self) -> None:
        """The leader opens a round; on the way there, whatever fails between rounds fails."""
        if self._chance(self.faults.new_leader_frac):
            self._at(self.now_s + self.rng.uniform(0.0, 150.0), self._elect)
        if self._epoch == 0 and self._chance(self.faults.new_key_frac):
            self._at(self.now_s + self.rng.uniform(0.0, 100.0), self._rotate)
        if self._chance(self.faults.operator_crash_frac):
            self._at(self.now_s + self.rng.uniform(50.0, 200.0), self._operator.restart)
        for host in self.hosts.values():
            if host.pool is not None and (host.folder / "pool.bin").exists() and self.rng.random() < 0.5:
                shutil.copy(host.folder / "pool.bin", host.folder / "backup")
            if self._chance(self.faults.crash_frac):
                self._at(self.now_s + self.rng.uniform(0.0, self.rng.choice((40.0, 200.0))), lambda host=host: self._crash(host))  # type: ignore[misc]
        for host in self.hosts.values():
            if host.member is not None and host.fence[1] == host.name:
                self._announce(host)

    def _announce(self, host: Host) -> None:
        host.number += 1
        here = self._groups[host.epoch]
        announce = Announce(
            round_name=f"{host.fence[0]}:{host.number}",
            leader=host.name,
            key_id=here.key.key_id,
            roster=tuple(sorted(self.hosts)),
            beacon=self.rng.randbytes(32).hex(),
            closes_s=self.now_s + COLLECT_S,
        )
        lie = "" if self._calm else self.faults.leader_lie
        said = lies.lying_announcements(lie, announce, here, self.rng) if lie in lies.ROSTER_LIES else [announce]
        if host.leading is not None and not lie:
            self.checks.pooled(host.leading)
        host.leading = LeaderRound(here, said[0], host.keys.envelope, self._operators[host.epoch].encryptor)
        self.outcome.rounds += 1
        for one in said:
            for after_s in (0.0, 0.5 * COLLECT_S):
                self._at(self.now_s + after_s, lambda one=one: self._tell(host, self._on_announce, one))  # type: ignore[misc]
        round_ = host.leading
        self._at(self.now_s + COLLECT_S, lambda: self._close(host, round_))

    def _on_announce(self, host: Host, announce: Announce) -> None:
        self._refusing(lambda: self._report(host, announce))

    def _report(self, host: Host, announce: Announce) -> None:
        """What the edge does with an announcement: check who and when, take randomisers, remember, and only then send."""
        if host.fence != (round_order(announce.round_name)[0], announce.leader):
            return
        assert host.member is not None
        assert host.pool is not None
        if announce.key_id == self._groups[host.epoch].key.key_id:
            check_time(announce, self.now_s, forgot_s=host.forgot_s)
        here = self._groups[host.epoch]
        values = self._values(host.name)
        sealed, opening = host.member.report(announce, values, host.pool.take(here.ciphertexts), newest=host.newest)
        host.newest = max(host.newest, host.member.newest)
        slots = slots_of(here, list(opening.values), announce.beacon)
        receipt = host.member.receipt
        assert receipt is not None
        self._announced[host.name, announce.round_name] = announce
        if host.name in self.liars:
            others = sorted(set(announce.roster) - {host.name})
            keys = self._operators[host.epoch]
            made, slots = lies.lying_reports(self.faults.member_lie, self.rng, here, keys, host.keys, opening, others)
            self.checks.vectors[announce.round_name, host.name] = slots
        else:
            made = [sealed]
            self.checks.reported(opening, bytes.fromhex(receipt.digest), slots, self.faults.members_min)
        for one in made:
            self._send(self.hosts[announce.leader], self._on_report, one)

    def _values(self, name: str) -> list[int]:
        limit = self.layout.value_max
        made = [self.rng.randint(-limit, limit) for _ in range(2)]
        made += [self.rng.choice((limit, -limit, 0, self.rng.randint(-limit, limit))) for _ in range(self.layout.values - 2)]
        return self._steady.setdefault(name, made) if self.faults.steady else made

    def _on_report(self, host: Host, sealed: bytes) -> None:
        def take() -> None:
            if host.leading is not None:
                receipt = host.leading.receive_report(sealed)
                self._send(self.hosts[receipt.member], self._on_receipt, receipt)

        self._refusing(take)

    def _on_receipt(self, host: Host, receipt: Receipt) -> None:
        host.receipts[receipt.round_name] = receipt

    def _close(self, host: Host, round_: LeaderRound) -> None:
        if host.leading is not round_ or host.member is None:
            return
        lie = "" if self._calm else self.faults.leader_lie
        if lie in lies.LIST_LIES and len(round_.reported) >= 3:
            self._lie_about_drops(host, round_, lie)
        else:
            self._refusing(lambda: self._lead(host, round_, round_.close(self._decoys(round_))))

    def _decoys(self, round_: LeaderRound) -> tuple[str, ...]:
        if not self._guarded:
            return ()
        groups = self._history
        return differencing.decoys(groups[-1] if groups else (), round_.present, self.rng, earlier=groups[:-1])

    def _lead(self, host: Host, round_: LeaderRound, drops: Drops | None) -> None:
        """Publish the drop list and wait for seeds, or hand the aggregate over."""
        if drops is None:
            self._finish(host, round_)
            return
        self._tell(host, self._on_drops, drops)

        def advance() -> None:
            if host.leading is round_ and host.member is not None:
                self._refusing(lambda: self._lead(host, round_, round_.advance(self._decoys(round_))))

        self._at(self.now_s + STEP_S, advance)

    def _on_drops(self, host: Host, drops: Drops) -> None:
        self._refusing(lambda: self._reveal(host, drops))

    def _reveal(self, host: Host, drops: Drops) -> None:
        if self._chance(self.faults.mute_frac) or (host.name in self.liars and self.faults.member_lie == "mute"):
            return
        announce = self._announced.get((host.name, drops.round_name))
        assert host.member is not None
        retired = host.retired is not None and host.retired.newest == round_order(drops.round_name)
        member = host.retired if retired and host.retired is not None else host.member
        sealed = member.reveal(drops)
        assert announce is not None
        if sealed is None:
            return
        if host.name in self.liars and self.faults.member_lie == "wrong seeds":
            sealed = lies.lying_seeds(self.rng, self._groups[host.epoch], host.keys, announce, drops)
        else:
            reported, ended = drops.round_name in self._rounds_of(host), drops.round_name in host.ended
            self.checks.revealed(host.name, announce, drops, self.faults.members_min, reported=reported, ended=ended)
        self._send(self.hosts[announce.leader], self._on_reveal, sealed)

    def _rounds_of(self, host: Host) -> set[str]:
        return {round_name for round_name, name in self.checks.vectors if name == host.name}

    def _on_reveal(self, host: Host, sealed: bytes) -> None:
        def take() -> None:
            if host.leading is None:
                return
            if host.leading.phase is Phase.COLLECTING:
                reveal = unseal_reveal(sealed, host.leading.announce.round_name, host.keys.envelope)
                host.loot.update({(reveal.member, peer): seed for peer, seed in reveal.seeds})
            else:
                host.leading.receive_reveal(sealed)

        self._refusing(take)

    def _finish(self, host: Host, round_: LeaderRound) -> None:
        here, keys = self._groups[self._epoch_of(round_)], self._operators[self._epoch_of(round_)]
        exponents = [self.rng.getrandbits(here.key.exponent_bits) for _ in range(here.ciphertexts)]
        lie = "" if self._calm else self.faults.leader_lie
        if lie in lies.SUM_LIES and len(round_.survivors) >= 2:
            for aggregate, claim in lies.lying_aggregates(lie, round_, here, keys, exponents, self.rng):
                self._hand_over(aggregate, claim)
            return
        self.checks.pooled(round_)
        self._history.append(frozenset(round_.survivors))
        self._hand_over(round_.aggregate(exponents), Claim(summed=round_.survivors, honest=True))
        if lie == lies.LATE_LIE:
            self._at(self.now_s + 2.0 * STEP_S, lambda: self._tell(host, self._on_drops, lies.late_list(round_)))

    def _epoch_of(self, round_: LeaderRound) -> int:
        return 0 if round_.announce.key_id == self._groups[0].key.key_id else 1

    def _hand_over(self, aggregate: Aggregate, claim: Claim) -> None:
        self._operator.claims[aggregate_digest(aggregate)] = claim
        for _ in range(2):
            self._send(None, self._on_aggregate, aggregate)

    def _on_aggregate(self, aggregate: Aggregate) -> None:
        answer, sums = self._operator.receive(aggregate)
        for host in self.hosts.values():
            for member in (host.member, host.retired):
                if member is not None:
                    member.end(answer.round_name)
                    host.ended.add(answer.round_name)
        if sums is None:
            self._refused(answer.reason if not answer.accepted else "")
            return
        self.outcome.accepted += 1
        if self._calm and self.now_s >= (ROUNDS + CALM_ROUNDS - 1) * PERIOD_S:
            able = sum(host.forgot_s is None or self.now_s > host.forgot_s + 2.5 * PERIOD_S for host in self.hosts.values())
            least = able - 2 * differencing.BATCH if self._guarded else able
            self.checks.check("rounds_go_on", sums.count >= least, f"{sums.count} of {able} members were summed in peace")

    def _lie_about_drops(self, host: Host, round_: LeaderRound, lie: str) -> None:
        said = lies.lying_lists(lie, round_, self._groups[self._epoch_of(round_)], self.rng)
        host.loot = {}
        for number, (drops, readers) in enumerate(said):
            for name in readers:
                self._at(
                    self.now_s + 4.0 * number, lambda name=name, drops=drops: self._send(self.hosts[name], self._on_drops, drops)  # type: ignore[misc]
                )
        if lie == "false drop":
            (victim,) = (name for name in said[0][0].dropped if name in round_.reported)
            self._at(self.now_s + STEP_S, lambda: self._expose(host, round_, victim, said[0][0]))

    def _expose(self, host: Host, round_: LeaderRound, victim: str, drops: Drops) -> None:
        """Hand one unmasked member over as if it were a sum. Where the victim holds its receipt, the lie can be proved."""
        receipt = self.hosts[victim].receipts.get(round_.announce.round_name)
        proof = lies.proof_of_false_drop(receipt, drops)
        if host.leading is not round_ or proof is None:
            return
        epoch = self._epoch_of(round_)
        exponent = self.rng.getrandbits(self._groups[epoch].key.exponent_bits)
        size = len(round_.reported) - 1
        aggregate = lies.unmasking(round_, self._groups[epoch], self._operators[epoch], victim, host.loot, size, exponent)
        if aggregate is not None:
            self._hand_over(aggregate, Claim(summed=(victim,), honest=False, proof=proof))


def simulate(seed: int) -> Outcome:
    """Run one seed."""
    return Simulation(seed).run()
