"""Rows of the bench: how soon a community follows another leader on a real Mosquitto, when its leader's process is killed or frozen.

Every member is the shipped election shell with a connection, signatures and a ballot of its own. The leader is a process of its own,
which gets SIGKILL or SIGSTOP; the others share two processes. Counted is the time from the signal until every living member has
accepted the certificate of a new leader. Each member checks every signature itself, yet members of one process check a vote in a
certificate once between them: on machines of their own they would check it at the same time.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from hil.broker import Broker
from hil.errors import RunError
from hil.leadership_nodes import COMMUNITY, key_of, name_of
from hil.scratch import discard, scratch_folder
from protocols.election import rules
from protocols.election.values import Epoch, Seat
from protocols.messages import EpochNotice
from protocols.mqtt_bus import MqttBus, MqttSettings
from protocols.signing import Sequencer, Signer
from protocols.topics import coordinator_topic

CASES: Final = (
    ("failover_killed_50", 50, signal.SIGKILL, 0.5),
    ("failover_frozen_50", 50, signal.SIGSTOP, 2.5),
    ("failover_killed_200", 200, signal.SIGKILL, 1.5),
    ("failover_frozen_200", 200, signal.SIGSTOP, 4.0),
)
TRIALS: Final = 5
HOSTS: Final = 2
SETTLED_WITHIN_S: Final = 60.0
QUIET_S: Final = 2.0
ATTEMPTS: Final = 12


def failover_rows(mosquitto: Path | None = None, *, trials: int = TRIALS, sizes: tuple[int, ...] = (50, 200)) -> list[dict[str, Any]]:
    """Median times of all cases with a community of these sizes."""
    rows = []
    for size in sizes:
        with _community(size, mosquitto) as community:
            for name, members, how, target_s in CASES:
                if members == size:
                    rows.append(_measured(community, name, how, trials, target_s))
    return rows


def _measured(community: Community, name: str, how: signal.Signals, trials: int, target_s: float) -> dict[str, Any]:
    """One row. A community that finds no leader in time counts as long as it was waited for, and says so."""
    try:
        return _row(name, [community.fail_over(how) for _ in range(trials)], target_s, community.size)
    except RunError as error:
        note = f"{error}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        return {"name": name, "value": SETTLED_WITHIN_S, "unit": "s", "target": f"<= {target_s:g}", "met": False, "note": note}


def _row(name: str, times_s: list[float], target_s: float, members: int) -> dict[str, Any]:
    median_s = statistics.median(times_s)
    spread = f"{len(times_s)} trials from {min(times_s):.3f} to {max(times_s):.3f} s"
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    note = f"{members} households, {spread}, {load}; until the last living member follows"
    return {"name": name, "value": median_s, "unit": "s", "target": f"<= {target_s:g}", "met": median_s <= target_s, "note": note}


class Listener:
    """One process of members, and what it said."""

    def __init__(self, port: int, folder: Path, first: int, last: int) -> None:
        command = [sys.executable, "-m", "hil.leadership_nodes", str(port), str(folder), str(first), str(last)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.members = frozenset(name_of(index) for index in range(first, last))
        self.accepted: dict[str, tuple[int, str, float]] = {}
        self.ready: set[str] = set()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if said["ready"]:
                self.ready.add(said["member"])
            if said["term"] > 0 and self.accepted.get(said["member"], (0, "", 0.0))[0] < said["term"]:
                self.accepted[said["member"]] = (said["term"], said["leader"], said["time_s"])

    def close(self) -> None:
        """End the process, frozen or not."""
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()


class Community:
    """A broker, the coordinator that registers members, and the processes that host them. Member 0 is the one that leads and fails."""

    def __init__(self, size: int, port: int, folder: Path) -> None:
        self.size = size
        self._port = port
        self._folder = folder
        self._epoch = 0
        bounds = [1 + (size - 1) * part // HOSTS for part in range(HOSTS + 1)]
        self._hosts = [Listener(port, folder, *pair) for pair in pairwise(bounds)]

    def fail_over(self, how: signal.Signals) -> float:
        """Let member 0 be elected, stop it by the signal, and measure until all others follow another leader."""
        leader = Listener(self._port, self._folder, 0, 1)
        try:
            term = self._elect_first(leader)
            time.sleep(QUIET_S)
            begun_s = time.monotonic()
            leader.process.send_signal(how)
            self._wait(lambda: all(self._follows(host, term) for host in self._hosts), "a new leader")
            return max(at_s for host in self._hosts for _, _, at_s in host.accepted.values()) - begun_s
        finally:
            leader.close()

    def close(self) -> None:
        """End all processes."""
        for host in self._hosts:
            host.close()

    def _follows(self, host: Listener, term: int) -> bool:
        said = dict(host.accepted)
        return said.keys() == host.members and all(at > term and who != name_of(0) for at, who, _ in said.values())

    def _elect_first(self, leader: Listener) -> int:
        """Register the members anew, with a seed that ranks member 0 first, until it leads and everybody follows. Returns its term."""
        everybody = (*self._hosts, leader)
        self._wait(lambda: all(host.ready == host.members for host in everybody), "a connection of everybody")
        for _ in range(ATTEMPTS):
            highest = max((at for host in self._hosts for at, _, _ in dict(host.accepted).values()), default=0)
            self._publish(self._drawn(highest + 1))
            self._wait(partial(_settled, everybody, highest), "one leader of everybody")
            term, who, _ = leader.accepted[name_of(0)]
            if who == name_of(0):
                return term
        raise RunError(f"failover bench: member 0 was not elected in {ATTEMPTS} epochs in which it ranks first")

    def _drawn(self, term: int) -> Epoch:
        self._epoch += 1
        seats = tuple(
            Seat(name=name_of(index), public_key=key_of(index).public_key().public_bytes_raw().hex(), reputation=0.9)
            for index in range(self.size)
        )
        for draw in range(1_000_000):
            epoch = Epoch(number=self._epoch, seats=seats, reputation_min=0.5, seed=f"{draw:064x}")
            if all(self._first(epoch, following) for following in (term, term + 1)):
                return epoch
        raise RunError("failover bench: no seed below a million ranks member 0 first in two terms")

    def _first(self, epoch: Epoch, term: int) -> bool:
        """Whether member 0 has the highest draw of the term; with equal reputations, that is the first place."""
        own = rules.draw(epoch, term, name_of(0))
        return own > 0.95 and rules.ranking(epoch, term)[0] == name_of(0)

    def _publish(self, epoch: Epoch) -> None:
        """What the coordinator would publish, retained, by a connection that comes and goes."""
        async def say() -> None:
            now_s = time.time()
            notice = EpochNotice(
                sender="coordinator", time_s=now_s, sequence=Sequencer(now_s).next(), epoch=epoch, cards=(), members_min=10
            )
            bus = MqttBus(MqttSettings(port=self._port), client_id="coordinator")
            await bus.start()
            bus.publish(Signer(key_of(-1)).seal(coordinator_topic(COMMUNITY, "epoch"), notice, retain=True))
            await bus.flush(10.0)
            await bus.stop()

        asyncio.run(say())

    def _wait(self, holds: Any, what: str) -> None:
        deadline_s = time.monotonic() + SETTLED_WITHIN_S
        while not holds():
            if time.monotonic() > deadline_s:
                raise RunError(f"failover bench: {what} did not come about within {SETTLED_WITHIN_S:.0f} s among {self.size} members")
            time.sleep(0.02)


def _settled(hosts: Sequence[Listener], above: int) -> bool:
    """Whether all members of these processes follow one leader, in a term above this one."""
    said = [dict(host.accepted) for host in hosts]
    heard = {pair[:2] for one in said for pair in one.values()}
    complete = all(one.keys() == host.members for one, host in zip(said, hosts, strict=True))
    return complete and len(heard) == 1 and min(heard)[0] > above


@contextmanager
def _community(size: int, mosquitto: Path | None) -> Iterator[Community]:
    # One disk cannot do at once what the disks of 200 households do.
    folder = scratch_folder("failover", in_memory=True)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        with Broker(mosquitto) as broker:
            community = Community(size, broker.port, folder)
            try:
                yield community
            finally:
                community.close()
    finally:
        discard(folder)
