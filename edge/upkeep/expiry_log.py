"""Says in the log what is about to expire, once a day and no more; loudly in the last week. A shell: it logs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from edge.upkeep.findings import DAY_S, URGENT_S, expiry_words

log = logging.getLogger(__name__)

LOOK_S: Final = 3600.0
REMEDY: Final = "commonwatt-edge renew asks for a new certificate; commonwatt-edge doctor says more"


class ExpiryLog:
    """Looks at `expiries` (Unix seconds by name) at the first cycle and every hour after."""

    def __init__(self, expiries: Callable[[], Mapping[str, float]]) -> None:
        self._expiries = expiries
        self._due_s = float("-inf")
        self._in_use: dict[str, float] = {}
        self._said: dict[str, float] = {}

    def look(self, now_s: float) -> None:
        """A cycle has ended at `now_s`; a clock that jumped back is looked at again."""
        if self._due_s - LOOK_S <= now_s < self._due_s:
            return
        self._due_s = now_s + LOOK_S
        for name, expires_s in self._expiries().items():
            in_use_s = self._in_use.setdefault(name, expires_s)
            if now_s - self._said.get(name, float("-inf")) < DAY_S:
                continue
            if expires_s > in_use_s:
                self._said[name] = now_s
                log.warning("certificate of the %s is renewed, but the old one is in use until the service is restarted", name)
                continue
            words = expiry_words(expires_s, now_s)
            if words is not None:
                self._said[name] = now_s
                level = logging.ERROR if expires_s - now_s <= URGENT_S else logging.WARNING
                log.log(level, "certificate of the %s %s; %s", name, words, REMEDY)
