"""Mosquitto's configuration and access list of a community, as text. Pure.

Who is connected is what the certificate says (`use_identity_as_username`), and what that name may do follows from `protocols.topics`:
each kind of topic is named, nothing is granted by `#` below a name. The patterns hold for every name, the rules of one user for it alone.
A revoked name is denied everything, which comes before all grants and takes effect on a connection that is open (SIGHUP).

Patterns without `%u` hold for the coordinator and for whoever watches too, who are the operator's: what members alone may read of a round
is denied to them by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from protocols.topics import (
    CONTROL_KINDS,
    COORDINATOR_KINDS,
    ELECTION_KINDS,
    NODE_KINDS,
    PAGE,
    PAGE_KINDS,
    PUBLIC_VIEW,
    ROOT,
    ROUND_KINDS,
    SEALED_KINDS,
    VERSION,
)

MAX_PACKET_BYTES: Final = 512 * 1024
"""Above the largest payload that is read (`protocols.codec`) with its topic and properties."""

VISITOR: Final = "visitor"
PROJECTOR: Final = "projector"

FOR_THE_COORDINATOR: Final = ("aggregate",)
"""Kinds of a round that the leader says to the coordinator alone."""

FOR_MEMBERS: Final = ("call", "accusation")
"""Kinds of a round that members alone read: rosters, drop lists, and proofs that show these. Who decrypts sums must not learn whose they
are."""

HEAD = """\
# Mosquitto 2 for community {community}, made by `commonwatt-coordinator`, which writes it anew: change nothing here.
per_listener_settings false
allow_anonymous false
acl_file {folder}/{access}
set_tcp_nodelay true
max_packet_size {max_packet}
max_inflight_messages 5000
max_queued_messages 20000
pid_file {folder}/{name}.pid
log_dest file {folder}/{name}.log
log_timestamp_format %Y-%m-%dT%H:%M:%S
log_type error
log_type warning
log_type notice
connection_messages true
{user}"""

PERSISTENCE = """\
persistence true
persistence_location {folder}/data/
autosave_interval 60
persistent_client_expiration 7d
"""

LISTENER = """
listener {port}{address}
protocol {protocol}
cafile {folder}/authority.pem
certfile {folder}/broker.pem
keyfile {folder}/broker.key
crlfile {folder}/revoked.pem
require_certificate true
use_identity_as_username true
"""

SESSION = """\
bridge_protocol_version mqttv50
remote_clientid page
cleansession true
notifications true
notifications_local_only true
restart_timeout 1 10
topic # in 1 {root}/ {root}/
"""

LOCAL = """
# For `commonwatt-coordinator page` on this machine alone, which lets browsers in.
password_file {folder}/page_passwords
listener {port} 127.0.0.1
"""

BRIDGE = f"""
connection page
address {{host}}:{{port}}
bridge_cafile {{folder}}/authority.pem
bridge_certfile {{folder}}/page.pem
bridge_keyfile {{folder}}/page.key
{SESSION}"""


class BrokerPlan(Struct, frozen=True, kw_only=True):
    """Where the brokers listen. `user` is who Mosquitto becomes when root starts it; `host` is how the page's broker reaches the other."""

    community: str
    host: str
    port: int
    websockets_port: int
    page_port: int
    address: str | None = None
    user: str | None = None


def broker_text(plan: BrokerPlan, folder: Path) -> str:
    """Configuration of the broker that the nodes use: MQTT with mutual TLS, what is retained or waits survives a restart."""
    head = _head(plan, folder, name="mosquitto", access="acl")
    further = f"\n# What `commonwatt-coordinator join-region` adds.\ninclude_dir {folder}/conf.d\n"
    return head + PERSISTENCE.format(folder=folder) + _listener(plan, folder, plan.port, "mqtt") + further


def page_text(plan: BrokerPlan, folder: Path) -> str:
    """Configuration of the broker for browsers, read-only, fed by a bridge: MQTT over websockets with mutual TLS, and plain MQTT with
    passwords for the page's server on this machine.

    It is a process of its own because browsers must not be able to harm control. Mosquitto 2.0.11 on libwebsockets was seen to ignore
    `crlfile` on a websockets listener until a reload, to spin at its end after one, and to drop every later client; the access list,
    which names what is revoked, holds there too.
    """
    bridge = BRIDGE.format(host=plan.host, port=plan.port, folder=folder, root=f"{ROOT}/{VERSION}/{plan.community}")
    head = _head(plan, folder, name="page", access="page_acl") + LOCAL.format(folder=folder, port=plan.page_port)
    return head + _listener(plan, folder, plan.websockets_port, "websockets") + bridge


def _head(plan: BrokerPlan, folder: Path, *, name: str, access: str) -> str:
    user = "" if plan.user is None else f"user {plan.user}\n"
    return HEAD.format(community=plan.community, folder=folder, name=name, access=access, max_packet=MAX_PACKET_BYTES, user=user)


def _listener(plan: BrokerPlan, folder: Path, port: int, protocol: str) -> str:
    where = "" if plan.address is None else f" {plan.address}"
    return LISTENER.format(port=port, address=where, protocol=protocol, folder=folder)


def access_text(community: str, *, silenced: Sequence[str], administrators: Sequence[str]) -> str:
    """The access list. Patterns with `%u` are the rights of a node (and of the coordinator's seat in elections)."""
    root = f"{ROOT}/{VERSION}/{community}"
    users = {"coordinator": list(_coordinator_rules(root)), "page": list(_watching_rules(root))}
    users |= {name: list(_watching_rules(root)) for name in administrators}
    return _access(users, silenced, list(_node_rules(root)))


def page_access_text(community: str, *, silenced: Sequence[str], administrators: Sequence[str]) -> str:
    """The access list of the page's broker: administrators read the community, a household what it wrote and what is said to it.

    Whoever has no login is the `visitor` and reads the public view alone; the `projector` is the page's server, which makes the views.
    """
    root = f"{ROOT}/{VERSION}/{community}"
    views = f"{root}/{PAGE}"
    users = {
        VISITOR: [f"deny {root}/{noun}/#" for noun in ("node", "control", "election", "round", "coordinator")],
        PROJECTOR: [*_watching_rules(root), *(f"write {views}/{kind}" for kind in PAGE_KINDS)],
        **{name: [*_watching_rules(root), *(f"read {views}/{kind}" for kind in PAGE_KINDS)] for name in administrators},
    }
    patterns = [f"read {root}/node/%u/{kind}" for kind in NODE_KINDS]
    patterns += [rule for rule in _node_rules(root) if rule.startswith("read ")]
    patterns.append(f"read {views}/{PUBLIC_VIEW}")
    return _access(users, silenced, patterns)


def _access(users: Mapping[str, Sequence[str]], silenced: Sequence[str], patterns: Sequence[str]) -> str:
    lines = ["# Made by `commonwatt-coordinator`, which writes it anew: change nothing here. Patterns without %u are meant for every name."]
    for name, rules in users.items():
        lines += ["", f"user {name}", *(f"topic {rule}" for rule in rules)]
    for name in silenced:
        lines += ["", f"user {name}", "topic deny #", "topic deny $SYS/#"]
    return "\n".join([*lines, "", *(f"pattern {rule}" for rule in patterns)]) + "\n"


def _node_rules(root: str) -> Iterator[str]:
    """What a node writes is below its own name; what it reads is said to everybody, or to it."""
    yield from (f"write {root}/node/%u/{kind}" for kind in NODE_KINDS)
    yield from (f"write {root}/election/%u/{kind}" for kind in ELECTION_KINDS)
    yield f"write {root}/election/%u/to/+"
    yield from (f"write {root}/round/%u/{kind}" for kind in ROUND_KINDS)
    yield from (f"write {root}/round/%u/{kind}/+" for kind in SEALED_KINDS)
    yield from (f"read {root}/control/%u/{kind}" for kind in CONTROL_KINDS)
    yield from (f"read {root}/coordinator/{kind}" for kind in COORDINATOR_KINDS)
    yield from (f"read {root}/election/+/{kind}" for kind in ELECTION_KINDS)
    yield f"read {root}/election/+/to/%u"
    yield from (f"read {root}/round/+/{kind}" for kind in ROUND_KINDS if kind not in FOR_THE_COORDINATOR)
    yield from (f"read {root}/round/+/{kind}/%u" for kind in SEALED_KINDS)


def _coordinator_rules(root: str) -> Iterator[str]:
    yield from (f"write {root}/control/+/{kind}" for kind in CONTROL_KINDS)
    yield from (f"write {root}/coordinator/{kind}" for kind in COORDINATOR_KINDS)
    yield from (f"read {root}/node/+/{kind}" for kind in NODE_KINDS)
    yield from (f"read {root}/round/+/{kind}" for kind in FOR_THE_COORDINATOR)
    yield from (f"deny {root}/round/+/{kind}" for kind in FOR_MEMBERS)


def _watching_rules(root: str) -> Iterator[str]:
    """Who watches reads what nodes and coordinator say in clear, and the broker's own figures; nothing of rounds. It writes nothing."""
    yield from (f"read {root}/node/+/{kind}" for kind in NODE_KINDS)
    yield from (f"read {root}/control/+/{kind}" for kind in CONTROL_KINDS)
    yield from (f"deny {root}/round/+/{kind}" for kind in FOR_MEMBERS)
    yield "read $SYS/#"
