"""The page of a run: the shipped page's server as a process, and the read-only broker behind it, as a coordinator has them.

Homes of the bench are invented, so the page is open: everybody who reaches it, on this machine, sees every home.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from coordinator.config import CoordinatorConfig
from coordinator.enrolment.broker_files import PROJECTOR, SESSION, VISITOR, page_access_text
from coordinator.enrolment.page_tokens import token_hash, tokens_text
from hil.broker import Broker
from hil.errors import RunError
from hil.processes import start_command, stop_process
from hil.toml_text import toml_text
from protocols.files import make_private_folder, write_private
from protocols.topics import ROOT, VERSION

START_TIMEOUT_S: Final = 60.0
LOOPBACK: Final = "127.0.0.1"

CONFIGURATION: Final = """\
per_listener_settings false
allow_anonymous false
password_file {folder}/passwords
acl_file {folder}/acl
set_tcp_nodelay true
max_queued_messages 20000
{user}listener {port} 127.0.0.1

connection page
address 127.0.0.1:{upstream_port}
"""

ACCESS: Final = f"""\
user {VISITOR}
topic read {{root}}/#

user {PROJECTOR}
topic read {{root}}/#
topic write {{root}}/page/+
topic read $SYS/#
"""


def page_url(port: int) -> str:
    """Where a browser finds the page."""
    return f"http://{LOOPBACK}:{port}/"


class PageBroker(Broker):
    """A second Mosquitto that repeats what the first one hears and lets nobody write but the page's server, below `page/`."""

    def __init__(
        self, community: str, upstream_port: int, password: str, tokens: Mapping[str, str] | None, program: Path | None = None
    ) -> None:
        """Without `tokens` everybody reads everything; with them a deployed broker's access list decides."""
        super().__init__(program)
        self._root = f"{ROOT}/{VERSION}/{community}"
        self._upstream_port = upstream_port
        known = {**(tokens or {}), PROJECTOR: token_hash(password), VISITOR: token_hash(VISITOR)}
        access = ACCESS.format(root=self._root) if tokens is None else page_access_text(community, silenced=(), administrators=())
        write_private(self._folder / "passwords", tokens_text(known).encode("ascii"))
        write_private(self._folder / "acl", access.encode("ascii"))

    def _configuration(self, port: int) -> str:
        text = CONFIGURATION.format(folder=self._folder, port=port, upstream_port=self._upstream_port, user=self._user())
        return text + SESSION.format(root=self._root)


class ServedPage:
    """See the module; `start` once the broker of the run is up."""

    def __init__(self, port: int, folder: Path, mosquitto: Path | None = None) -> None:
        self.port = port
        self.broker: PageBroker | None = None
        self._folder = folder
        self._mosquitto = mosquitto
        self._server: subprocess.Popen[bytes] | None = None
        self._tokens: dict[str, str] | None = None
        self._started: tuple[CoordinatorConfig, int] | None = None

    def close_to_strangers(self, tokens: Mapping[str, str]) -> None:
        """From the next start on the page asks for a login; `tokens` are names and hashes of tokens."""
        self._tokens = dict(tokens)

    def restart(self) -> None:
        """Stop both and start them again, with the same ports."""
        assert self._started is not None
        config, upstream_port = self._started
        self._stop()
        self._start(config, upstream_port)

    async def start(self, config: CoordinatorConfig, upstream_port: int) -> None:
        """Start both; return when the page can be asked. Raises `RunError` where it cannot."""
        await asyncio.to_thread(self._start, config, upstream_port)

    async def stop(self) -> None:
        """End both."""
        await asyncio.to_thread(self._stop)

    def _start(self, config: CoordinatorConfig, upstream_port: int) -> None:
        if not _is_free(self.port):
            raise RunError(f"--serve {self.port}: another program listens on this port")
        self._started = config, upstream_port
        make_private_folder(self._folder)
        password = secrets.token_urlsafe(24)
        self.broker = PageBroker(config.identity.community, upstream_port, password, self._tokens, self._mosquitto)
        self.broker.start()
        write_private(self._folder / "projector.password", password.encode("ascii"))
        page = msgspec.structs.replace(
            config.page,
            address=LOOPBACK,
            port=self.port,
            broker_port=self.broker.port,
            password_file=str(self._folder / "projector.password"),
            tokens_file=str(self._folder / "page.tokens"),
            open=self._tokens is None,
        )
        write_private(self._folder / "page.tokens", tokens_text(self._tokens or {}).encode("ascii"))
        path = self._folder / "page.toml"
        path.write_text(toml_text(msgspec.structs.replace(config, page=page)), encoding="utf-8")
        self._server = start_command("commonwatt-coordinator", "page", "--config", str(path))
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while _is_free(self.port):
            if self._server.poll() is not None or time.monotonic() > deadline_s:
                self._stop()
                raise RunError(f"the page's server did not come up on port {self.port}")
            time.sleep(0.05)

    def _stop(self) -> None:
        if self._server is not None:
            self._server.terminate()
            stop_process(self._server)
            self._server = None
        if self.broker is not None:
            self.broker.close()
            self.broker = None


def _is_free(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=0.5).close()
    except OSError:
        return True
    return False
