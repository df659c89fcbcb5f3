"""What the operator can observe of its members without seeing any of their power: whether they are there. Pure.

Each member's reputation (`protocols.reputation`) is fed with the share of each interval in which its newest status was not `offline`; what
only its plans could show stays at what it was. Reputations are frozen into an epoch when it begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from protocols.reputation import Observation, Reputation, observe

INTERVAL_S: Final = 900.0


class _Presence(Struct):
    online: bool = False
    since_s: float = 0.0
    online_s: float = 0.0


class PresenceBook:
    """Reputations of all members by name."""

    def __init__(self, members: Iterable[str], now_s: float) -> None:
        self._reputations = {name: Reputation(time_s=now_s) for name in members}
        self._presence = {name: _Presence(since_s=now_s) for name in self._reputations}
        self._begun_s = now_s

    def seen(self, name: str, online: bool, now_s: float) -> None:
        """The member's newest status."""
        presence = self._presence.get(name)
        if presence is not None:
            self._count(presence, now_s)
            presence.online = online

    def step(self, now_s: float) -> None:
        """Close the interval when it is full."""
        duration_s = now_s - self._begun_s
        if duration_s < INTERVAL_S:
            return
        for name, presence in self._presence.items():
            self._count(presence, now_s)
            seen = Observation(time_s=now_s, duration_s=duration_s, online_frac=min(presence.online_s / duration_s, 1.0))
            self._reputations[name] = observe(self._reputations[name], seen)
            presence.online_s = 0.0
        self._begun_s = now_s

    def value(self, name: str) -> float:
        """The member's reputation at present."""
        return self._reputations[name].value_frac

    def save(self) -> str:
        """The reputations, for the operator's disk."""
        return msgspec.json.encode(self._reputations).decode()

    def restore(self, text: str) -> None:
        """Take back what `save` gave, for members that are still there."""
        known: Mapping[str, Reputation] = msgspec.json.decode(text, type=dict[str, Reputation])
        self._reputations.update({name: reputation for name, reputation in known.items() if name in self._reputations})

    @staticmethod
    def _count(presence: _Presence, now_s: float) -> None:
        if presence.online:
            presence.online_s += max(now_s - presence.since_s, 0.0)
        presence.since_s = now_s
