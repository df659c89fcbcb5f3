"""The election under faults that are drawn from one seed, together with their rates.

Each run draws a group of 3 to 7 members and switches every kind of fault on or off (swarm testing, Groce et al., ISSTA 2012): loss,
duplication, reordering, delays beyond the election timeout, partitions, crashes in the middle of an effect list, restarts, lost disks,
frozen processes, broken connections with and without a last will, clocks that run at different speeds, and a member that never resigns.
The members are the shipped
`protocols.election.node.Node`; time, disk and network are simulated.

Named checkers watch every step:

- `one_leader_per_term`: "at most one leader can be elected in a given term" (Ongaro and Ousterhout 2014, figure 3, Election Safety);
- `one_vote_per_term`: "each server will vote for at most one candidate in a given term" (section 5.2);
- `one_actor_at_a_time`: no two members may act as leader at the same moment (leases; runs without last wills);
- `no_actuation_under_an_old_term`: what a member actuates never goes back to a lower term, nor to one that has another leader;
- `seat_moves_on`: members hold a leader to its tenure, also one that will not resign ("so that nobody holds the seat for ever");
- `heals`: once faults stop, the community follows one leader (liveness runs).
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from itertools import count
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct, field, structs

from hil.simulation.election_faults import Faults, draw_faults
from protocols.election.effects import Effect, Follow, Persist, Send
from protocols.election.node import Node
from protocols.election.values import Ballot, Certificate, ElectionMessage, Epoch, Seat, Timing, Vote

CHECKERS: Final = (
    "one_leader_per_term",
    "one_vote_per_term",
    "one_actor_at_a_time",
    "no_actuation_under_an_old_term",
    "seat_moves_on",
    "heals",
)
TICK_S: Final = 0.1
HEALED_WITHIN_S: Final = 40.0
NEVER_S: Final = 1e9

_KEYS: Final = tuple(Ed25519PrivateKey.from_private_bytes(bytes([i + 1]) * 32) for i in range(7))


class Command(Struct, frozen=True):
    """What an acting leader tells a member to do; only its term matters here."""

    term: int


class Outcome(Struct, kw_only=True):
    """What one seed gave."""

    seed: int
    faults: Faults
    checks: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CHECKERS, 0))
    violations: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in CHECKERS})
    terms: int = 0
    excused: str = ""

    @property
    def safe(self) -> bool:
        """Whether no checker was violated."""
        return not any(self.violations.values())


class Host:
    """A member's machine: disk, clock, and the process when it runs."""

    def __init__(self, index: int, clock_rate: float) -> None:
        self.index = index
        self.name = f"h{index}"
        self.clock_rate = clock_rate
        self.stubborn = False
        self.followed: tuple[int, float] = (-1, 0.0)
        self.disk: Ballot | None = None
        self.node: Node | None = None
        self.frozen_until_s = 0.0
        self.cut_until_s = 0.0
        self.boots = 0
        self.actuated: tuple[int, str] = (0, "")
        self.waiting: list[Callable[[], None]] = []

    def local_s(self, now_s: float) -> float:
        """The host's monotonic clock."""
        return now_s * self.clock_rate


class Simulation:
    """One run. `run` plays it and returns the outcome."""

    def __init__(self, seed: int, *, duration_s: float = 30.0, liveness: bool = False) -> None:
        self.rng = random.Random(seed)
        self.faults = draw_faults(self.rng)
        self.outcome = Outcome(seed=seed, faults=self.faults)
        self.now_s = 0.0
        self._duration_s = duration_s
        self._liveness = liveness
        self._healed = False
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._counter = count()
        self._islands: dict[str, int] = {}
        self._leaders: dict[int, str] = {}
        self._votes: dict[tuple[str, int], str] = {}
        self.timing = timing = Timing(tenure_s=self.faults.tenure_s, renew_every=self.faults.renew_every)
        slowest = 1.0 - self.faults.drift_frac
        self._longest_s = (timing.tenure_s * (1.0 + timing.drift_frac) + timing.promise_s + timing.lease_s) / slowest + TICK_S
        rates = [1.0 + self.rng.uniform(-1.0, 1.0) * self.faults.drift_frac for _ in range(self.faults.members)]
        self.hosts = {f"h{i}": Host(i, rates[i]) for i in range(self.faults.members)}
        stubborn = random.Random(f"{seed} stubborn")
        if stubborn.random() < 0.3:
            self.hosts[f"h{stubborn.randrange(self.faults.members)}"].stubborn = True
        self.epoch = Epoch(
            number=1,
            seats=tuple(
                Seat(
                    name=host.name,
                    public_key=_KEYS[host.index].public_key().public_bytes_raw().hex(),
                    reputation=self.rng.uniform(0.55, 1.0),
                )
                for host in self.hosts.values()
            ),
            reputation_min=0.5,
            seed=self.rng.randbytes(32).hex(),
        )

    def run(self) -> Outcome:
        """Play the run: faults for `duration_s`, then, in a liveness run, peace until the community follows one leader."""
        for host in self.hosts.values():
            self._boot(host, founding=True)
        for rate, fault in (
            (self.faults.partitions_per_s, self._partition),
            (self.faults.crashes_per_s, self._crash_somebody),
            (self.faults.freezes_per_s, self._freeze_somebody),
            (self.faults.cuts_per_s, self._cut_somebody),
        ):
            if rate > 0.0:
                self._repeat(rate, fault)
        self._play(self._duration_s)
        if self._liveness:
            self._heal()
            while self.now_s < self._duration_s + HEALED_WITHIN_S and not self._converged():
                self._play(self.now_s + 1.0)
            self._check_healed()
        self.outcome.terms = len(self._leaders)
        return self.outcome

    def _play(self, until_s: float) -> None:
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, action = heapq.heappop(self._events)
            action()
            self._check_actors()
        self.now_s = until_s

    def _at(self, time_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._counter), action))

    def _repeat(self, rate_per_s: float, fault: Callable[[], None]) -> None:
        def fire() -> None:
            if not self._healed:
                fault()
                self._at(self.now_s + self.rng.expovariate(rate_per_s), fire)

        self._at(self.rng.expovariate(rate_per_s), fire)

    def _boot(self, host: Host, *, founding: bool = False) -> None:
        host.boots += 1
        boots = host.boots
        host.node = Node(
            host.name,
            self.epoch,
            _KEYS[host.index],
            structs.replace(self.timing, tenure_s=NEVER_S) if host.stubborn else self.timing,
            host.local_s(self.now_s),
            ballot=host.disk,
            nonce=self.rng.randbytes(32).hex(),
            founding=founding,
        )

        def tick() -> None:
            if host.node is None or host.boots != boots:
                return
            if self.now_s >= host.frozen_until_s:
                self._step(host, lambda node: node.tick(host.local_s(self.now_s)))
                self._command(host)
            self._at(self.now_s + TICK_S * self.rng.uniform(0.8, 1.2), tick)

        self._at(self.now_s + self.rng.uniform(0.0, TICK_S), tick)

    def _step(self, host: Host, step: Callable[[Node], list[Effect]]) -> None:
        """Run one step of the node and carry its effects out; a crash may come between any two of them."""
        node = host.node
        if node is None:
            return
        for effect in step(node):
            if not self._healed and self.rng.random() < self.faults.crash_in_step_frac:
                self._crash(host)
                return
            match effect:
                case Persist():
                    host.disk = effect.ballot
                case Follow():
                    host.followed = (effect.certificate.term, self.now_s)
                case Send():
                    self._send(host, effect.to, effect.message)

    def _send(self, sender: Host, to: str | None, message: ElectionMessage | Command) -> None:
        self._watch(sender, message)
        for receiver in self.hosts.values():
            if receiver is not sender and to in (None, receiver.name):
                copies = 1 + (self.rng.random() < self.faults.duplicate_frac and not self._healed)
                for _ in range(copies):
                    self._transmit(sender, receiver, message)

    def _transmit(self, sender: Host, receiver: Host, message: ElectionMessage | Command) -> None:
        if self.now_s < sender.cut_until_s or self._islands.get(sender.name) != self._islands.get(receiver.name):
            return
        if not self._healed and self.rng.random() < self.faults.loss_frac:
            return
        delay_s = self.rng.expovariate(1.0 / self.faults.delay_s)
        if not self._healed and self.rng.random() < self.faults.long_delay_frac:
            delay_s += self.rng.uniform(0.0, self.faults.long_delay_s)
        self._at(self.now_s + delay_s, lambda: self._deliver(sender.name, receiver, message))

    def _deliver(self, sender: str, receiver: Host, message: ElectionMessage | Command) -> None:
        if receiver.node is None or self.now_s < receiver.cut_until_s:
            return
        if self.now_s < receiver.frozen_until_s:
            self._at(receiver.frozen_until_s, lambda: self._deliver(sender, receiver, message))
        elif isinstance(message, Command):
            self._actuate(sender, receiver, message)
        else:
            self._step(receiver, lambda node: node.receive(sender, message, receiver.local_s(self.now_s)))

    def _command(self, host: Host) -> None:
        if host.node is not None and host.node.may_act(host.local_s(self.now_s)):
            self._send(host, None, Command(host.node.term))

    def _partition(self) -> None:
        self._islands = {name: self.rng.randint(0, 1) for name in self.hosts}

        def join() -> None:
            self._islands = {}

        self._at(self.now_s + self.rng.expovariate(1.0 / self.faults.partition_s), join)

    def _crash_somebody(self) -> None:
        self._crash(self.rng.choice(list(self.hosts.values())))

    def _crash(self, host: Host) -> None:
        if host.node is None:
            return
        host.node = None
        if self.rng.random() < self.faults.disk_loss_frac:
            host.disk = None
            host.actuated = (0, "")
        self._publish_will(host)

        def restart() -> None:
            if host.node is None:
                host.frozen_until_s = host.cut_until_s = 0.0
                self._boot(host)

        self._at(self.now_s + self.rng.expovariate(1.0 / self.faults.down_s), restart)

    def _freeze_somebody(self) -> None:
        host = self.rng.choice(list(self.hosts.values()))
        host.frozen_until_s = self.now_s + self.rng.expovariate(1.0 / self.faults.freeze_s)

    def _cut_somebody(self) -> None:
        """Break one connection. The member notices at once, or, where the connection is half open, when it comes back."""
        host = self.rng.choice(list(self.hosts.values()))
        if host.node is None:
            return
        duration_s = self.rng.expovariate(0.5)
        host.cut_until_s = self.now_s + duration_s
        self._publish_will(host)

        def notice() -> None:
            self._step(host, lambda node: node.disconnected(host.local_s(self.now_s)))

        self._at(self.now_s + self.rng.choice([0.0, duration_s]), notice)

    def _publish_will(self, host: Host) -> None:
        if not self.faults.wills:
            return
        for receiver in self.hosts.values():
            if receiver is not host and self.rng.random() >= self.faults.loss_frac:

                def arrive(receiver: Host = receiver) -> None:
                    self._step(receiver, lambda node: node.will(host.name, receiver.local_s(self.now_s)))

                self._at(self.now_s + self.rng.expovariate(1.0 / self.faults.delay_s), arrive)

    def _heal(self) -> None:
        self._healed = True
        self._islands = {}
        for host in self.hosts.values():
            host.cut_until_s = 0.0
            host.frozen_until_s = min(host.frozen_until_s, self.now_s)
            if host.node is None:
                self._boot(host)

    def _watch(self, sender: Host, message: ElectionMessage | Command) -> None:
        if isinstance(message, Certificate):
            self._check("one_leader_per_term", self._leaders.setdefault(message.term, message.leader) == message.leader,
                        f"term {message.term}: {self._leaders[message.term]} and {message.leader}")  # fmt: skip
        elif isinstance(message, Vote):
            key = (message.voter, message.term)
            self._check("one_vote_per_term", self._votes.setdefault(key, message.candidate) == message.candidate,
                        f"{message.voter} in term {message.term}: {self._votes[key]} and {message.candidate}")  # fmt: skip

    def _actuate(self, sender: str, receiver: Host, command: Command) -> None:
        assert receiver.node is not None
        if not receiver.node.accepts(sender, command.term):
            return
        term, leader = receiver.actuated
        in_order = command.term > term or (command.term == term and sender == leader)
        self._check("no_actuation_under_an_old_term", in_order,
                    f"{receiver.name}: term {command.term} of {sender} after term {term} of {leader}")  # fmt: skip
        receiver.actuated = max((term, leader), (command.term, sender))

    def _check_actors(self) -> None:
        acting = [
            host.node
            for host in self.hosts.values()
            if host.node is not None and self.now_s >= host.frozen_until_s and host.node.may_act(host.local_s(self.now_s))
        ]
        if not self.faults.wills:
            self._check("one_actor_at_a_time", len(acting) <= 1, " and ".join(node.name for node in acting))
        for node in acting:
            followed_s = max(host.followed[1] for host in self.hosts.values() if host.followed[0] == node.term)
            self._check("seat_moves_on", self.now_s <= followed_s + self._longest_s, f"{node.name} still leads in term {node.term}")

    def _converged(self) -> bool:
        """Whether one member acts and everybody follows it."""
        nodes = [host.node for host in self.hosts.values() if host.node is not None]
        leaders = {node.certificate.leader for node in nodes if node.certificate is not None}
        acting = {node.name for node in nodes if node.may_act(self.hosts[node.name].local_s(self.now_s))}
        return len(acting) == 1 and leaders == acting and len({node.term for node in nodes}) == 1

    def _check_healed(self) -> None:
        nodes = [host.node for host in self.hosts.values() if host.node is not None]
        if not self._converged() and 2 * sum(node.amnesiac for node in nodes) >= len(nodes):
            self.outcome.excused = "half of the members or more have lost their memory: the operator founds a new epoch"
            return
        self._check("heals", self._converged(), f"after {HEALED_WITHIN_S:.0f} s of peace: {nodes}")

    def _check(self, name: str, holds: bool, detail: str) -> None:
        self.outcome.checks[name] += 1
        if not holds and len(self.outcome.violations[name]) < 5:
            self.outcome.violations[name].append(f"t = {self.now_s:.3f} s, {detail}")


def simulate(seed: int, *, liveness: bool = False, duration_s: float = 30.0) -> Outcome:
    """Run one seed. In a safety run faults never stop; in a liveness run they stop and the community must converge."""
    return Simulation(seed, duration_s=duration_s, liveness=liveness).run()
