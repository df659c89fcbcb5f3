"""`commonwatt-coordinator page`: serve the page until SIGTERM or SIGINT. A shell."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import ssl
import sys
from pathlib import Path

from aiohttp import web

from coordinator.assembly import beside, read_network
from coordinator.config import CoordinatorConfig, load_config
from coordinator.enrolment.broker_files import PROJECTOR
from coordinator.errors import ConfigError
from coordinator.page.access import Tokens
from coordinator.page.board import Board
from coordinator.page.estimate import Estimator
from coordinator.page.projector import Projector
from coordinator.page.replay import Archive
from coordinator.page.runner import page_runner
from coordinator.page.server import PageServer
from coordinator.page.settings import PageSection
from protocols.clock import SystemClock
from protocols.mqtt_bus import Login, MqttBus, MqttSettings

log = logging.getLogger(__name__)


def page(arguments: argparse.Namespace) -> int:
    """Serve the page."""
    config = beside(load_config(arguments.config), arguments.config.resolve().parent)
    asyncio.run(_serve(config, _tls(config.page)))
    return 0


async def _serve(config: CoordinatorConfig, tls: ssl.SSLContext | None) -> None:
    section, clock = config.page, SystemClock()
    estimator = Estimator(config, read_network(config))
    board = Board(config, estimator)
    login = Login(user=PROJECTOR, password_file=section.password_file)
    settings = MqttSettings(port=section.broker_port, login=login, session_expiry_s=0, backoff_min_s=0.2, backoff_max_s=2.0)
    projector = Projector(board, MqttBus(settings, client_id="projector"), clock, config.identity.community)
    archive = Archive(config.store.url, board.network, board.diagram, estimator)
    server = PageServer(config, board, projector, archive, Tokens(Path(section.tokens_file)), clock)
    runner = page_runner(server.app())
    await runner.setup()
    stopping = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopping.set)
    projecting = asyncio.create_task(projector.run())
    try:
        try:
            await web.TCPSite(runner, section.address, section.port, ssl_context=tls).start()
        except OSError as error:
            raise ConfigError(f"{section.address} port {section.port}: {error.strerror or error} - at $.page.port") from error
        scheme = "http" if tls is None else "https"
        sys.stdout.write(f"the page: {scheme}://{section.address}:{section.port}/\n")
        sys.stdout.flush()
        waiting = asyncio.create_task(stopping.wait())
        await asyncio.wait((waiting, projecting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if projecting.done():
            projecting.result()
    finally:
        projecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await projecting
        await runner.cleanup()
        archive.close()


def _tls(section: PageSection) -> ssl.SSLContext | None:
    if section.tls_cert_file is None or section.tls_key_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(section.tls_cert_file, section.tls_key_file)
    except (OSError, ssl.SSLError) as error:
        names = f"{section.tls_cert_file}, {section.tls_key_file}"
        raise ConfigError(f"{names}: not usable for TLS: {error} - at $.page.tls_cert_file") from error
    return context
