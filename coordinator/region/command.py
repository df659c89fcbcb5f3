"""`commonwatt-coordinator region`. A shell."""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

from coordinator.region.config import RegionConfig, load_region
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


async def _run(config: RegionConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    signer = Signer(load_private_key(Path(config.identity.key_file)))
    bus = MqttBus(config.broker, client_id=f"region-{signer.private_name(config.identity.region)}")
    await RegionCoordinator(config, bus=bus, clock=SystemClock()).run(stop)
