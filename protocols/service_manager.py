"""What a service tells the manager that started it: ready, alive, stopping, a line of status. A shell: it writes to one socket.

The protocol is that of sd_notify(3): datagrams of `KEY=VALUE` lines to the Unix socket that `NOTIFY_SOCKET` names, the abstract name
space where it begins with `@`. Without a manager nothing is said. `alive` is called by the loop that does the work and by nothing beside
it, so that a loop that hangs is restarted though the process lives.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)


class ServiceManager:
    """Speaks to the manager of `environment`. `patience_s`: how long the loop may be silent before it counts as hung, where that is longer
    than what the unit says."""

    def __init__(self, environment: Mapping[str, str], *, patience_s: float = 0.0) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        watched_us = environment.get("WATCHDOG_USEC", "")
        self._watched_s = int(watched_us) / 1e6 if watched_us.isdecimal() else None
        self._patience_s = patience_s
        self._ready = False
        self._said = ""
        self._trouble = ""

    @property
    def is_watched(self) -> bool:
        """Whether the manager ends a service that is silent."""
        return self._watched_s is not None

    def alive(self, status: str = "") -> None:
        """One turn of the loop is done; the first one makes the service ready. `status` is said when it changed."""
        lines = []
        if not self._ready:
            self._ready = True
            lines.append("READY=1")
            if self._watched_s is not None and self._patience_s > self._watched_s:
                lines.append(f"WATCHDOG_USEC={round(self._patience_s * 1e6)}")
        if self.is_watched:
            lines.append("WATCHDOG=1")
        if status and status != self._said:
            self._said = status
            lines.append(f"STATUS={' '.join(status.split())}")
        self._say(lines)

    def stopping(self) -> None:
        """The service is about to end as it should."""
        self._say(["STOPPING=1"])

    def _say(self, lines: list[str]) -> None:
        if len(lines) == 0 or self._address == "":
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                sender.sendto("\n".join(lines).encode("utf-8"), self._address)
        except OSError as error:
            if str(error) != self._trouble:
                log.warning("the service manager cannot be told: %s", error)
            self._trouble = str(error)
