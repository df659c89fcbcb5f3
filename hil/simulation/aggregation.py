"""Whole rounds under faults and lies that are drawn from one seed, together with their rates.

Members, leader, operator and pool of randomisers are the shipped `Member`, `LeaderRound`, `OperatorBook` and `RandomiserPool`; time,
transport and elections are simulated (that a term has one leader is what `hil.simulation.election` shows). Each run draws a community of
4 to 24 members and switches every kind of fault on or off: loss, duplication, delays beyond the deadlines, a broker that replays old
messages, crashes of members, leader and operator, lost disks, pools restored from a backup, new leaders in mid-round, a new key with
rounds in flight, members that lie (`hil.simulation.aggregation_lies`), or a leader that does. `hil.simulation.aggregation_checks` watches.
"""

from __future__ import annotations

import heapq
import random
import shutil
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, field

from edge.leadership.pool import RandomiserPool
from hil.simulation import aggregation_lies as lies
from hil.simulation.aggregation_checks import CHECKERS, Checks, Claim, slots_of
from hil.simulation.community import OperatorKeys, group, member_keys, operator_keys
from protocols.aggregation import differencing, packing
from protocols.aggregation.leader import LeaderRound, Phase
from protocols.aggregation.member import Member, check_time, round_order
from protocols.aggregation.messages import Acknowledgement, Aggregate, Announce, Drops, Receipt, aggregate_digest, unseal_reveal
from protocols.aggregation.operator import NOT_A_SUM, OperatorBook
from protocols.aggregation.packing import Layout
from protocols.errors import ProtocolError

PERIOD_S: Final = 900.0
COLLECT_S: Final = 60.0
STEP_S: Final = 30.0
ROUNDS: Final = 6
CALM_ROUNDS: Final = 3
POOL: Final = 3


class Faults(Struct, frozen=True, kw_only=True):
    """What may go wrong in one run, and how often. A rate of 0 switches a fault off."""

    members: int
    members_min: int
    values: int
    loss_frac: float
    duplicate_frac: float
    late_frac: float
    replay_frac: float
    crash_frac: float
    disk_loss_frac: float
    restore_frac: float
    operator_crash_frac: float
    mute_frac: float
    new_leader_frac: float
    new_key_frac: float
    steady: bool
    member_lie: str
    leader_lie: str


class Outcome(Struct, kw_only=True):
    """What one seed gave."""

    seed: int
    faults: Faults
    checks: dict[str, int]
    violations: dict[str, list[str]]
    rounds: int = 0
    accepted: int = 0
    refusals: dict[str, int] = field(default_factory=dict)

    @property
    def safe(self) -> bool:
        """Whether no checker was violated."""
        return not any(self.violations.values())


def draw_faults(rng: random.Random) -> Faults:
    """Size, kinds of fault and their rates for one run. A leader lies in one run of three, members in one of three, nobody in the rest."""

    def on(low: float, high: float, probability: float = 0.5) -> float:
        return rng.uniform(low, high) if rng.random() < probability else 0.0

    liar = rng.choice(("nobody", "member", "leader"))
    leader_lie = rng.choice(lies.LEADER_LIES) if liar == "leader" else ""
    steady = liar == "nobody" and rng.random() < 0.5
    many = leader_lie == "too many decoys"
    return Faults(
        members=24 if many else rng.randint(18, 22) if steady else rng.choice((4, 5, 6, 7, 8, 10, 12)),
        members_min=3,
        values=rng.choice((3, 9, 20)),
        loss_frac=on(0.01, 0.15),
        duplicate_frac=on(0.01, 0.3),
        late_frac=on(0.01, 0.2),
        replay_frac=on(0.02, 0.3),
        crash_frac=on(0.01, 0.15),
        disk_loss_frac=on(0.1, 0.6, 0.4),
        restore_frac=on(0.1, 0.6, 0.4),
        operator_crash_frac=on(0.05, 0.3),
        mute_frac=on(0.02, 0.15),
        new_leader_frac=on(0.05, 0.3),
        new_key_frac=on(0.05, 0.2, 0.3),
        steady=steady,
        member_lie=rng.choice(lies.MEMBER_LIES) if liar == "member" else "",
        leader_lie=leader_lie,
    )


class Host:
    """A member's machine: what its disk keeps, and the process when it runs."""

    def __init__(self, index: int, folder: Path) -> None:
        self.keys = member_keys(index)
        self.name = self.keys.card.name
        self.folder = folder
        self.newest = (0, 0)
        self.number = 0
        self.member: Member | None = None
        self.retired: Member | None = None
        self.pool: RandomiserPool | None = None
        self.forgot_s: float | None = None
        self.fence = (0, "")
        self.epoch = 0
        self.leading: LeaderRound | None = None
        self.loot: dict[tuple[str, str], bytes] = {}
        self.receipts: dict[str, Receipt] = {}


class Simulation:
    """One run. `run` plays it and returns the outcome."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.faults = draw_faults(self.rng)
        faults = self.faults
        self.layout = Layout(values=faults.values, members_max=24)
        self.checks = Checks(self.layout)
        self.outcome = Outcome(seed=seed, faults=faults, checks=self.checks.counts, violations=self.checks.violations)
        self.now_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._counter = count()
        self._calm = False
        self._sent: list[Callable[[], None]] = []
        self._operators = [operator_keys(1), operator_keys(2)]
        self._groups = [group(faults.members, keys, self.layout, faults.members_min) for keys in self._operators]
        self._saved = [b"[]", b"[]"]
        self._books: list[OperatorBook] = []
        self._claims: dict[str, Claim] = {}
        self._history: list[frozenset[str]] = []
        self._announced: dict[tuple[str, str], Announce] = {}
        self._steady: dict[str, list[int]] = {}
        self._seat = (0, "")
        self._epoch = 0
        self._folder = Path(tempfile.mkdtemp(prefix="commonwatt-rounds-"))
        self.hosts = {f"h{i:03d}": Host(i, self._folder / f"h{i:03d}") for i in range(faults.members)}
        names = sorted(self.hosts)
        self.liars = frozenset(self.rng.sample(names, 1 + (len(names) > 7))) if faults.member_lie else frozenset()

    def run(self) -> Outcome:
        """Play rounds with faults, then in peace, where everybody who remembers must be in the sum."""
        try:
            self._open_books()
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
            shutil.rmtree(self._folder, ignore_errors=True)
        return self.outcome

    def _at(self, time_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._counter), action))

    def _chance(self, rate: float) -> bool:
        return not self._calm and self.rng.random() < rate

    def _send(self, host: Host | None, take: Callable[..., None], *arguments: Any) -> None:
        """Bring a message to a host that runs, or to the operator (None), unless it gets lost; a broker may say it again much later."""

        def arrive() -> None:
            if host is None or host.member is not None:
                take(*([] if host is None else [host]), *arguments)

        self._sent.append(arrive)
        for _ in range(1 + self._chance(self.faults.duplicate_frac)):
            if not self._chance(self.faults.loss_frac):
                late_s = self.rng.uniform(20.0, 1.2 * PERIOD_S) if self._chance(self.faults.late_frac) else 0.0
                self._at(self.now_s + late_s + self.rng.uniform(0.01, 2.0), arrive)
        if self._chance(self.faults.replay_frac):
            self._at(self.now_s + self.rng.uniform(0.0, PERIOD_S), self.rng.choice(self._sent))

    def _tell(self, teller: Host, take: Callable[..., None], *arguments: Any) -> None:
        """Send to everybody, if the teller still runs."""
        if teller.member is not None:
            for host in self.hosts.values():
                self._send(host, take, *arguments)

    def _refusing(self, action: Callable[[], None]) -> None:
        """Carry out what a rule may refuse; refusals are counted by their first words and stop nothing else."""
        try:
            action()
        except ProtocolError as error:
            words = " ".join(str(error).split()[:3])
            self.outcome.refusals[words] = self.outcome.refusals.get(words, 0) + 1

    # Leaders, keys, and machines that fail.

    def _elect(self) -> None:
        """A new term. Everybody hears of it sooner or later; until then the old leader goes on."""
        self._seat = (self._seat[0] + 1, self.rng.choice(sorted(self.hosts)))
        for host in self.hosts.values():

            def learn(host: Host = host, seat: tuple[int, str] = self._seat) -> None:
                host.fence = max(host.fence, seat)

            self._at(self.now_s + (0.0 if self._seat[0] == 1 else self.rng.uniform(0.0, 20.0 if self._calm else 120.0)), learn)

    def _rotate(self) -> None:
        """The operator's new key reaches everybody sooner or later; rounds under the old one may still end."""
        self._epoch = 1
        for host in self.hosts.values():

            def learn(host: Host = host) -> None:
                if host.epoch == 0:
                    host.epoch = 1
                    if host.member is not None:
                        host.retired, host.member = host.member, self._member(host)
                        self._reopen_pool(host)

            self._at(self.now_s + self.rng.uniform(0.0, 300.0), learn)

    def _boot(self, host: Host) -> None:
        host.member = self._member(host)
        host.retired = None
        self._reopen_pool(host)

    def _member(self, host: Host) -> Member:
        operator = self._operators[host.epoch]
        return Member(host.name, self._groups[host.epoch], host.keys.signing, host.keys.pads, operator.encryptor)

    def _reopen_pool(self, host: Host) -> None:
        if host.pool is not None:
            host.pool.close()
        encryptor = self._operators[host.epoch].encryptor
        host.pool = RandomiserPool(
            host.folder, host.folder / "run", encryptor, target=POOL, entropy=self.rng.randbytes, boot="one", durable=False
        )
        host.pool.fill(POOL)

    def _crash(self, host: Host) -> None:
        if host.member is None or host.pool is None:
            return
        host.pool.close()
        host.member = host.retired = host.pool = host.leading = None
        host.loot = {}
        if self._chance(self.faults.disk_loss_frac):
            shutil.rmtree(host.folder)
            host.newest, host.number = (0, 0), 1_000_000 + host.number
            host.forgot_s = self.now_s
        elif self._chance(self.faults.restore_frac) and (host.folder / "backup").exists():
            shutil.copy(host.folder / "backup", host.folder / "pool.bin")
        self._at(self.now_s + self.rng.uniform(1.0, self.rng.choice((10.0, 120.0))), lambda: self._boot(host))

    def _open_books(self) -> None:
        self._books = []
        for keys, saved in zip(self._operators, self._saved, strict=True):
            book = OperatorBook(keys.public, self.layout, self._decrypting(keys), members_min=self.faults.members_min)
            book.restore(saved)
            self._books.append(book)

    def _decrypting(self, keys: OperatorKeys) -> Callable[[int], int]:
        """The operator's decryption, which the checkers watch; they look once all parts of a report are there."""
        parts: list[int] = []

        def decrypt(ciphertext: int) -> int:
            plaintext = int(keys.private.raw_decrypt(ciphertext))
            parts.append(plaintext)
            if len(parts) == self._groups[0].ciphertexts:
                width = 1 << (32 * self._groups[0].chunk)
                whole = [part % width for part in parts]
                parts.clear()
                last = self.layout.slots - (len(whole) - 1) * self._groups[0].chunk
                whole[-1] %= 1 << (32 * last)
                self.checks.decryption(packing.unpack(whole, self.layout.slots, self._groups[0].chunk))
            return plaintext

        return decrypt

    def _heal(self) -> None:
        self._calm = True
        for host in self.hosts.values():
            if host.member is None:
                self._boot(host)
            host.epoch = self._epoch
            host.member = self._member(host)
            self._reopen_pool(host)
        self.liars = frozenset()
        self._elect()

    # A round, from its announcement to its answer.

    def _begin(self) -> None:
        """The leader opens a round; on the way there, whatever fails between rounds fails."""
        if self._chance(self.faults.new_leader_frac):
            self._at(self.now_s + self.rng.uniform(0.0, 150.0), self._elect)
        if self._epoch == 0 and self._chance(self.faults.new_key_frac):
            self._at(self.now_s + self.rng.uniform(0.0, 100.0), self._rotate)
        if self._chance(self.faults.operator_crash_frac):
            self._at(self.now_s + self.rng.uniform(50.0, 200.0), self._open_books)
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
        if len(self.hosts) < self.faults.members_min + 3 * differencing.BATCH:
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
            self.checks.revealed(host.name, announce, drops.round_name in self._rounds_of(host), drops, self.faults.members_min)
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

    def _epoch_of(self, round_: LeaderRound) -> int:
        return 0 if round_.announce.key_id == self._groups[0].key.key_id else 1

    def _hand_over(self, aggregate: Aggregate, claim: Claim) -> None:
        self._claims[aggregate_digest(aggregate)] = claim
        for _ in range(2):
            self._send(None, self._on_aggregate, aggregate)

    def _on_aggregate(self, aggregate: Aggregate) -> None:
        """The operator answers under the key that the round was announced with, and writes its book down before the answer leaves."""
        index = next((i for i, one in enumerate(self._groups) if one.key.key_id == aggregate.key_id), None)
        if index is None:
            return
        claim = self._claims[aggregate_digest(aggregate)]
        self.checks.excused = not claim.honest and claim.proof is not None
        answer, sums = self._books[index].receive(aggregate)
        self.checks.excused = False
        self._saved[index] = self._books[index].save()
        self._check_answer(aggregate, answer, claim)
        if sums is None:
            words = " ".join(answer.reason.split()[:3])
            self.outcome.refusals[words] = self.outcome.refusals.get(words, 0) + (not answer.accepted)
            return
        self.outcome.accepted += 1
        self.checks.accepted(sums, claim)
        if self._calm and self.now_s >= (ROUNDS + CALM_ROUNDS - 1) * PERIOD_S:
            able = sum(host.forgot_s is None or self.now_s > host.forgot_s + 2.5 * PERIOD_S for host in self.hosts.values())
            guarded = len(self.hosts) >= self.faults.members_min + 3 * differencing.BATCH
            least = able - 2 * differencing.BATCH if guarded else able
            self.checks.check("rounds_go_on", sums.count >= least, f"{sums.count} of {able} members were summed in peace")

    def _check_answer(self, aggregate: Aggregate, answer: Acknowledgement, claim: Claim) -> None:
        """An acknowledgement says nothing of what was decrypted, and only a poisoned report can spoil an honest leader's sum."""
        opened = aggregate.round_name in self._books[0].findings or aggregate.round_name in self._books[1].findings
        silent = answer.reason in ("", NOT_A_SUM) or not opened or "another aggregate" in answer.reason
        self.checks.check("no_plaintext", silent, f"the answer to round {answer.round_name} says {answer.reason!r}")
        poisoned = self.faults.member_lie in lies.POISON or self.faults.leader_lie in lies.ROSTER_LIES
        fine = answer.reason != NOT_A_SUM or not claim.honest or poisoned
        self.checks.check("rounds_go_on", fine, f"round {answer.round_name} of an honest leader was no sum")

    # A leader that lies about who is missing.

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


__all__ = ["CHECKERS", "Faults", "Outcome", "Simulation", "draw_faults", "simulate"]
