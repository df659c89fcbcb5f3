"""Members of a community in a process of their own, for the bench: shipped election shells on a real broker, aggregation off.

`python -m hil.leadership_nodes PORT FOLDER FIRST LAST` hosts members FIRST to LAST - 1. It prints one JSON line for each member
that is connected, and for each leader that a member accepts, with the machine's monotonic time; it ends when its standard input closes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.leadership.election_shell import BootClock
from edge.leadership.membership import Identity, Membership
from edge.leadership.settings import AggregationSection, LeadershipSection
from edge.leadership.voice import gone_message
from protocols.messages import CommunitySignal, RoundCall
from protocols.mqtt_bus import MqttBus, MqttSettings
from protocols.signing import Sequencer, Signer

COMMUNITY: Final = "bench"


def key_of(index: int) -> Ed25519PrivateKey:
    """Signing key of a member of the bench; index -1 is the coordinator."""
    return Ed25519PrivateKey.from_private_bytes((index + 1).to_bytes(32, "big"))


def name_of(index: int) -> str:
    """Name of a member of the bench."""
    return f"home-{index:03d}"


class Quiet:
    """A household that has nothing to report."""

    def values(self, call: RoundCall) -> None:
        """It sits every round out."""

    def signal(self, signal: CommunitySignal) -> None:
        """It has no price to hear."""


def member(index: int, port: int, folder: Path) -> Membership:
    """One member with a connection, keys and a ballot of its own."""
    clock = BootClock()
    name, key = name_of(index), key_of(index)
    signer, wills = Signer(key), Sequencer(clock.now_s())
    bus = MqttBus(
        MqttSettings(port=port),
        client_id=name,
        will=lambda: gone_message(COMMUNITY, name, signer, wills, clock.now_s()),
    )
    identity = Identity(community=COMMUNITY, node=name, key=key, coordinator_keys=(key_of(-1).public_key(),))
    own = folder / name
    return Membership(
        identity, LeadershipSection(enabled=True), AggregationSection(),
        bus=bus, clock=clock, folder=own, runtime_folder=own / "run", household=Quiet(), commissioned=True,
    )  # fmt: skip


async def live(one: Membership, stop: asyncio.Event) -> None:
    """Run one member, and say whom it accepts as leader."""
    await one.start()
    accepted = (0, "")
    ready = False
    while not stop.is_set():
        one.step()
        certificate = one.election.certificate
        follows = (0, "") if certificate is None else (certificate.term, certificate.leader)
        if follows != accepted or ready is not one._bus.connected:
            accepted, ready = follows, one._bus.connected
            line = {"member": one.node, "ready": ready, "term": follows[0], "leader": follows[1], "time_s": time.monotonic()}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
        await one._bus.wait(0.1)
        await asyncio.sleep(0)


async def host(port: int, folder: Path, first: int, last: int) -> None:
    """All members of this process, until standard input closes."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(live(member(index, port, folder), stop)) for index in range(first, last)]
    await asyncio.to_thread(sys.stdin.read)
    stop.set()
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(host(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
