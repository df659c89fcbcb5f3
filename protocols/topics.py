"""The topic grammar: `commonwatt/1/<community>/...`, one level for each noun.

| topic | who writes | retained | content |
|---|---|---|---|
| `node/<node>/status` | the node (and its last will) | yes | `Status` |
| `node/<node>/telemetry` | the node | no | `Telemetry` |
| `node/<node>/forecast` | the node | no | `Forecast` |
| `node/<node>/plan` | the node | no | `Plan` |
| `node/<node>/flexibility` | the node | no | `FlexibilityDeclaration` |
| `node/<node>/response` | the node | no | `ControlResponse` |
| `control/<node>/envelope` | the coordinator | no | `EnvelopeSchedule` |
| `control/<node>/default` | the coordinator | yes | `DefaultControl` |
| `coordinator/status` | the coordinator (and its last will) | yes | `Status` |

A node writes only below `node/<its own name>/`; it reads only `control/<its own name>/`. Measurements and commands are never
retained: a receiver that comes late must not take an old one for a new one.
"""

from __future__ import annotations

import re
from typing import Final

from protocols.errors import TopicError

ROOT: Final = "commonwatt"
VERSION: Final = "1"
_LEVEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

NODE_KINDS: Final = ("status", "telemetry", "forecast", "plan", "flexibility", "response")
CONTROL_KINDS: Final = ("envelope", "default")


def node_topic(community: str, node: str, kind: str) -> str:
    """Topic below which the node itself writes; `kind` is one of NODE_KINDS (or `+`)."""
    return _join(community, "node", node, kind, allowed=NODE_KINDS)


def control_topic(community: str, node: str, kind: str) -> str:
    """Topic of what the coordinator commands one node; `kind` is one of CONTROL_KINDS (or `+`)."""
    return _join(community, "control", node, kind, allowed=CONTROL_KINDS)


def coordinator_status_topic(community: str) -> str:
    """Topic of the coordinator's own status."""
    return f"{ROOT}/{VERSION}/{_level(community)}/coordinator/status"


def owner(topic: str) -> tuple[str, str, str]:
    """(community, name, kind) of a `node/...` topic, or (community, 'coordinator', kind) of what the coordinator writes.

    Raises `TopicError` for anything outside the grammar: a topic that nobody owns is refused, not guessed at.
    """
    match topic.split("/"):
        case [root, version, community, "node", node, kind] if root == ROOT and version == VERSION and kind in NODE_KINDS:
            return _level(community), _level(node), kind
        case [root, version, community, "control", node, kind] if root == ROOT and version == VERSION and kind in CONTROL_KINDS:
            _level(node)
            return _level(community), "coordinator", kind
        case [root, version, community, "coordinator", "status"] if root == ROOT and version == VERSION:
            return _level(community), "coordinator", "status"
        case _:
            raise TopicError(f"topic {topic!r} is not in the grammar {ROOT}/{VERSION}/<community>/...")


def matches(topic_filter: str, topic: str) -> bool:
    """Whether an MQTT subscription filter (`+`, trailing `#`) covers the topic (MQTT 5, section 4.7)."""
    filter_levels = topic_filter.split("/")
    topic_levels = topic.split("/")
    for index, level in enumerate(filter_levels):
        if level == "#":
            return True
        if index >= len(topic_levels) or (level != "+" and level != topic_levels[index]):
            return False
    return len(filter_levels) == len(topic_levels)


def _join(community: str, noun: str, name: str, kind: str, *, allowed: tuple[str, ...]) -> str:
    if kind != "+" and kind not in allowed:
        raise TopicError(f"topic kind {kind!r}: expected one of {', '.join(allowed)}")
    return f"{ROOT}/{VERSION}/{_level(community)}/{noun}/{name if name == '+' else _level(name)}/{kind}"


def _level(text: str) -> str:
    if _LEVEL.fullmatch(text) is None:
        raise TopicError(f"topic level {text!r}: expected 1 to 64 of A-Z a-z 0-9 _ -, beginning with a letter or digit")
    return text
