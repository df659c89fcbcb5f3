"""`commonwatt-coordinator region`, `init-region` and `join-region`. A shell."""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import sys
from pathlib import Path

from coordinator.enrolment.folder import Folder
from coordinator.enrolment.founding import broker_user_here
from coordinator.region.broker_files import RegionPlan
from coordinator.region.config import RegionConfig, load_region
from coordinator.region.founding import check_region, found_region, join_region
from coordinator.region.service import RegionCoordinator
from protocols.clock import SystemClock
from protocols.keys import load_private_key
from protocols.mqtt_bus import MqttBus
from protocols.signing import Signer

EXIT_DONE = 0


def region(arguments: argparse.Namespace) -> int:
    """Run the coordinator of a region until SIGTERM or SIGINT."""
    asyncio.run(_run(load_region(arguments.config)))
    return EXIT_DONE


def init_region(arguments: argparse.Namespace) -> int:
    """Make a region of communities that are there."""
    communities = {name: Path(folder) for name, folder in arguments.community}
    check_region(arguments.region, communities)
    hosts = tuple(arguments.host or (socket.gethostname(),))
    plan = RegionPlan(
        region=arguments.region,
        communities=tuple(communities),
        host=hosts[0],
        port=arguments.port,
        address=arguments.address,
        user=broker_user_here() if arguments.broker_user is None else arguments.broker_user,
    )
    names = tuple(dict.fromkeys((*hosts, "localhost", "127.0.0.1")))
    found_region(arguments.folder, plan, communities, names, SystemClock().now_s())
    root = arguments.folder.resolve()
    sys.stdout.write(
        f"region {plan.region} of {', '.join(plan.communities)} in {root}\n"
        f"  broker       mosquitto -c {root / 'broker' / 'mosquitto.conf'}\n"
        f"  coordinator  commonwatt-coordinator region --config {root / 'region.toml'}\n"
    )
    for name in plan.communities:
        sys.stdout.write(f"  {name}: port {plan.port_of(name)}; hand it {root / f'for-{name}'} for `commonwatt-coordinator join-region`\n")
    return EXIT_DONE


def join(arguments: argparse.Namespace) -> int:
    """Let a community into a region."""
    folder = Folder(arguments.folder)
    with folder.locked():
        invitation = join_region(folder, arguments.invitation)
    sys.stdout.write(
        f"{invitation.community} joins {invitation.region} at {invitation.host}:{invitation.port} when its broker is started again\n"
        f"each household: copy {arguments.invitation} to its controller, and add what {arguments.invitation / 'section.toml'} says\n"
    )
    return EXIT_DONE


async def _run(config: RegionConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    signer = Signer(load_private_key(Path(config.identity.key_file)))
    bus = MqttBus(config.broker, client_id=f"region-{signer.private_name(config.identity.region)}")
    await RegionCoordinator(config, bus=bus, clock=SystemClock()).run(stop)
