"""The topic grammar: `commonwatt/1/<community>/...`, one level for each noun.

| topic | who writes | retained | content |
|---|---|---|---|
| `node/<node>/status` | the node (and its last will) | yes | `Status` |
| `node/<node>/telemetry` | the node | no | `Telemetry` |
| `node/<node>/forecast` | the node | no | `Forecast` |
| `node/<node>/plan` | the node | no | `Plan` |
| `node/<node>/flexibility` | the node | no | `FlexibilityDeclaration` |
| `node/<node>/response` | the node | no | `ControlResponse` |
| `node/<node>/answer` | the node | no | `MarketAnswer` |
| `control/<node>/envelope` | the coordinator | no | `EnvelopeSchedule` |
| `control/<node>/default` | the coordinator | yes | `DefaultControl` |
| `control/<node>/ask` | the coordinator | no | `MarketAsk` |
| `coordinator/status` | the coordinator (and its last will) | yes | `Status` |
| `node/<node>/join` | the node | yes | `JoinCard` |
| `node/<node>/adherence` | the node | no | `AdherenceReport` |
| `node/<node>/verdict` | the node | no | `Verdict` |
| `election/<node>/call`, `election/<node>/to/<member>` | the node | no | `ElectionNotice` |
| `election/<node>/certificate` | the node | yes | `ElectionNotice` with a certificate |
| `election/<node>/gone` | the broker, as the node's last will | no | `Gone` |
| `round/<node>/call` | the node, while it leads | no | `RoundNotice`: announcements and drop lists |
| `round/<node>/aggregate` | the node, while it leads | no | `RoundNotice` with an aggregate, for the coordinator alone |
| `round/<node>/accusation` | the node | no | `Accusation`, for the members alone |
| `round/<node>/report/<leader>`, `.../reveal/<leader>` | the node | no | sealed bytes (`protocols.aggregation.messages`) |
| `round/<node>/receipt/<member>` | the node, while it leads | no | a signature over the receipt |
| `round/<node>/audit/<leader>`, `.../transcript/<member>` | a member, and the leader | no | sealed: how was it summed? |
| `round/coordinator/demand/<member>`, `round/<node>/opening/coordinator` | as named | no | sealed: a sampled report, opened |
| `coordinator/epoch`, `coordinator/key` | the coordinator | yes | `EpochNotice`, `KeyCard` |
| `coordinator/round` | the coordinator | no | `RoundNotice` with an acknowledgement |
| `coordinator/signal` | the coordinator | no | `CommunitySignal` |
| `coordinator/region` | the coordinator of a region | yes | `RegionNotice` |

In a region, whose name takes the place of the community's, nodes are communities, and their leaders write for them.

A node writes only below `node/<its own name>/`, `election/<its own name>/` and `round/<its own name>/`; it reads what the others call,
what is addressed to it, and `control/<its own name>/`. The coordinator reads of a round its aggregate and the openings that it asked for,
and nothing else. Measurements and commands are never retained: a receiver that comes late must not take an old one for a new one.
"""

from __future__ import annotations

import re
from typing import Final

from protocols.errors import TopicError

ROOT: Final = "commonwatt"
VERSION: Final = "1"
_LEVEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

NODE_KINDS: Final = ("status", "telemetry", "forecast", "plan", "flexibility", "response", "join", "adherence", "verdict", "answer")
CONTROL_KINDS: Final = ("envelope", "default", "ask")
ELECTION_KINDS: Final = ("call", "certificate", "gone")
ROUND_KINDS: Final = ("call", "aggregate", "accusation")
SEALED_KINDS: Final = ("report", "reveal", "receipt", "audit", "transcript", "demand", "opening")
COORDINATOR_KINDS: Final = ("status", "epoch", "key", "round", "signal", "region")

PAGE: Final = "page"
PUBLIC_VIEW: Final = "view"
FEEDER_VIEW: Final = "feeder"
PAGE_KINDS: Final = (PUBLIC_VIEW, FEEDER_VIEW)
"""What the page's server makes of all of it, for browsers; these exist on the page's broker alone and are not signed."""


def node_topic(community: str, node: str, kind: str) -> str:
    """Topic below which the node itself writes; `kind` is one of NODE_KINDS (or `+`)."""
    return _join(community, "node", node, kind, allowed=NODE_KINDS)


def control_topic(community: str, node: str, kind: str) -> str:
    """Topic of what the coordinator commands one node; `kind` is one of CONTROL_KINDS (or `+`)."""
    return _join(community, "control", node, kind, allowed=CONTROL_KINDS)


def coordinator_status_topic(community: str) -> str:
    """Topic of the coordinator's own status."""
    return coordinator_topic(community, "status")


def page_topic(community: str, kind: str) -> str:
    """Topic of a view of the page; `kind` is one of PAGE_KINDS."""
    if kind not in PAGE_KINDS:
        raise TopicError(f"topic kind {kind!r}: expected one of {', '.join(PAGE_KINDS)}")
    return f"{ROOT}/{VERSION}/{_level(community)}/{PAGE}/{kind}"


def coordinator_topic(community: str, kind: str) -> str:
    """Topic of what the coordinator says to the whole community; `kind` is one of COORDINATOR_KINDS (or `+`)."""
    if kind != "+" and kind not in COORDINATOR_KINDS:
        raise TopicError(f"topic kind {kind!r}: expected one of {', '.join(COORDINATOR_KINDS)}")
    return f"{ROOT}/{VERSION}/{_level(community)}/coordinator/{kind}"


def election_topic(community: str, node: str, kind: str) -> str:
    """Topic of what a member says in an election to everybody; `kind` is one of ELECTION_KINDS."""
    return _join(community, "election", node, kind, allowed=ELECTION_KINDS)


def election_letter_topic(community: str, node: str, member: str) -> str:
    """Topic of what `node` (or `+`) says in an election to one member."""
    return f"{_join(community, 'election', node, '+', allowed=())[:-1]}to/{_level(member)}"


def round_topic(community: str, node: str, kind: str) -> str:
    """Topic of what a leader says about its rounds; `kind` is one of ROUND_KINDS."""
    return _join(community, "round", node, kind, allowed=ROUND_KINDS)


def sealed_topic(community: str, node: str, kind: str, recipient: str) -> str:
    """Topic of bytes that `node` (or `+`) sends to one recipient within a round; `kind` is one of SEALED_KINDS."""
    return f"{_join(community, 'round', node, kind, allowed=SEALED_KINDS)}/{_level(recipient)}"


def sealed_route(topic: str) -> tuple[str, str, str, str] | None:
    """(community, writer, kind, recipient) of a sealed topic, None for any other topic."""
    match topic.split("/"):
        case [root, version, community, "round", node, kind, recipient] if (
            root == ROOT and version == VERSION and kind in SEALED_KINDS and all(map(_LEVEL.fullmatch, (community, node, recipient)))
        ):
            return community, node, kind, recipient
        case _:
            return None


def owner(topic: str) -> tuple[str, str, str]:
    """(community, name, kind) of a signed topic: the name of the node that writes it, or 'coordinator' of what the coordinator writes.

    Elections and rounds have one kind each, `election` and `round`, but for the last will, which is `gone`, and for accusations. Raises
    `TopicError` for anything outside the grammar: a topic that nobody owns is refused, not guessed at. Sealed topics are not signed and
    not in here.
    """
    match topic.split("/"):
        case [root, version, community, "node", node, kind] if root == ROOT and version == VERSION and kind in NODE_KINDS:
            return _level(community), _level(node), kind
        case [root, version, community, "control", node, kind] if root == ROOT and version == VERSION and kind in CONTROL_KINDS:
            _level(node)
            return _level(community), "coordinator", kind
        case [root, version, community, "coordinator", kind] if root == ROOT and version == VERSION and kind in COORDINATOR_KINDS:
            return _level(community), "coordinator", kind
        case [root, version, community, "election", node, kind] if root == ROOT and version == VERSION and kind in ELECTION_KINDS:
            return _level(community), _level(node), "gone" if kind == "gone" else "election"
        case [root, version, community, "election", node, "to", member] if root == ROOT and version == VERSION:
            _level(member)
            return _level(community), _level(node), "election"
        case [root, version, community, "round", node, kind] if root == ROOT and version == VERSION and kind in ROUND_KINDS:
            return _level(community), _level(node), "accusation" if kind == "accusation" else "round"
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
