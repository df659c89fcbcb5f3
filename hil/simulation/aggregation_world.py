"""The world that simulated rounds live in: faults and their rates, machines and their disks, a transport, terms and keys.

Everything is drawn from one seed. What the machines say to each other is in `hil.simulation.aggregation`.
"""

from __future__ import annotations

import heapq
import random
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, field, structs

from edge.leadership.pool import RandomiserPool
from hil.scratch import scratch_folder
from hil.simulation import aggregation_lies as lies
from hil.simulation.aggregation_checks import Checks
from hil.simulation.community import group, member_keys, operator_keys
from protocols.aggregation import differencing
from protocols.aggregation.leader import LeaderRound
from protocols.aggregation.member import Member
from protocols.aggregation.messages import Receipt
from protocols.aggregation.packing import Layout
from protocols.errors import ProtocolError

PERIOD_S: Final = 900.0
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
        self.ended: set[str] = set()


class World:
    """Machines, time, transport, terms and keys of one run."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        faults = self.faults = draw_faults(self.rng)
        seldom = random.Random(f"{seed} seldom")
        if not (faults.leader_lie or faults.member_lie or faults.steady) and seldom.random() < 0.5:
            faults = self.faults = structs.replace(faults, leader_lie=seldom.choice(lies.SELDOM_LIES))
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
        self._seat = (0, "")
        self._epoch = 0
        self._folder = scratch_folder("rounds", in_memory=True)
        self.hosts = {f"h{i:03d}": Host(i, self._folder / f"h{i:03d}") for i in range(faults.members)}
        names = sorted(self.hosts)
        self.liars = frozenset(self.rng.sample(names, 1 + (len(names) > 7))) if faults.member_lie else frozenset()

    def _at(self, time_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._counter), action))

    @property
    def _guarded(self) -> bool:
        """Whether the community is large enough to hide who is missing."""
        return len(self.hosts) >= self.faults.members_min + 3 * differencing.BATCH

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
            self._refused(str(error))

    def _refused(self, reason: str) -> None:
        words = " ".join(reason.split()[:3])
        if words:
            self.outcome.refusals[words] = self.outcome.refusals.get(words, 0) + 1

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

