"""Mosquitto's configuration and access lists of a region, as text. Pure.

Each community has a listener of its own, which takes its own authority's certificates and no others: a name like `h07` is there in every
community, and only the listener says whose it is. What a listener allows follows from that. Any household may come to lead its community,
so all of them may write below the community's name in the region's election and below no other's; whether it leads is what its
signature shows, to everybody who checks it. What the region needs of a community, its epoch and its leader's certificate, comes over a
bridge from the community's own broker, which may write just that. The region's coordinator comes over the first listener.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from coordinator.enrolment.broker_files import MAX_PACKET_BYTES, PERSISTENCE
from protocols.topics import ELECTION_KINDS, ROOT, VERSION

BRIDGE_NAME: Final = "page"
"""The identity with which a community's broker connects elsewhere; it reads at home and belongs to no household."""

HEAD: Final = """\
# Mosquitto 2 for region {region}, made by `commonwatt-coordinator init-region`.
per_listener_settings true
set_tcp_nodelay true
max_packet_size {max_packet}
max_inflight_messages 5000
max_queued_messages 20000
pid_file {folder}/mosquitto.pid
log_dest file {folder}/mosquitto.log
log_timestamp_format %Y-%m-%dT%H:%M:%S
log_type error
log_type warning
log_type notice
connection_messages true
{user}"""

LISTENER: Final = """
listener {port}{address}
protocol mqtt
allow_anonymous false
acl_file {folder}/{name}.acl
cafile {folder}/{name}.authority.pem
certfile {folder}/broker.pem
keyfile {folder}/broker.key
require_certificate true
use_identity_as_username true
{revoked}"""

BRIDGE: Final = """\
# Tells region {region} who leads {community}; made by `commonwatt-coordinator join-region`.
connection region-{region}
address {host}:{port}
bridge_protocol_version mqttv50
bridge_cafile {folder}/region.pem
bridge_certfile {folder}/page.pem
bridge_keyfile {folder}/page.key
remote_clientid bridge-{community}
cleansession true
notifications false
restart_timeout 1 10
topic {root}/{community}/coordinator/epoch out 1
topic {root}/{community}/election/+/certificate out 1
"""

OWN: Final = "region"
"""Names the files of the listener for the region's coordinator."""


class RegionPlan(Struct, frozen=True, kw_only=True):
    """Where the broker of a region listens: its coordinator at `port`, each community one higher, in their order."""

    region: str
    communities: tuple[str, ...]
    host: str
    port: int
    address: str | None = None
    user: str | None = None

    def port_of(self, community: str) -> int:
        """Where a community's households and its bridge connect."""
        return self.port + 1 + self.communities.index(community)


def region_broker_text(plan: RegionPlan, folder: Path) -> str:
    """Configuration of the region's broker, whose files lie in `folder`."""
    user = "" if plan.user is None else f"user {plan.user}\n"
    head = HEAD.format(region=plan.region, folder=folder, max_packet=MAX_PACKET_BYTES, user=user) + PERSISTENCE.format(folder=folder)
    address = "" if plan.address is None else f" {plan.address}"
    texts = [LISTENER.format(port=plan.port, address=address, folder=folder, name=OWN, revoked="")]
    for community in plan.communities:
        revoked = f"crlfile {folder}/{community}.revoked.pem\n"
        texts.append(LISTENER.format(port=plan.port_of(community), address=address, folder=folder, name=community, revoked=revoked))
    return head + "".join(texts)


def coordinator_access_text(plan: RegionPlan) -> str:
    """What the region's coordinator may: read what proves the communities' leaders, and say the regional epoch."""
    rules = [f"write {_root(plan.region)}/coordinator/region", *_proofs(plan.communities)]
    return _access([f"pattern {rule}" for rule in rules])


def community_access_text(plan: RegionPlan, community: str) -> str:
    """What the listener of one community allows."""
    root, own = _root(plan.region), _root(community)
    bridge = [f"topic write {own}/coordinator/epoch", f"topic write {own}/election/+/certificate"]
    rules = [f"write {root}/election/{community}/{kind}" for kind in ELECTION_KINDS]
    rules += [f"write {root}/election/{community}/to/{other}" for other in plan.communities]
    rules += [f"read {root}/election/+/{kind}" for kind in ELECTION_KINDS]
    rules += [f"read {root}/election/+/to/{community}", f"read {root}/coordinator/region", *_proofs(plan.communities)]
    denied = [f"topic deny {root}/election/{community}/#"]
    return _access([f"user {BRIDGE_NAME}", *bridge, *denied, "", *(f"pattern {rule}" for rule in rules)])


def bridge_text(region: str, community: str, host: str, port: int, folder: Path) -> str:
    """What a community's broker, whose files lie in `folder`, does beside its own work."""
    return BRIDGE.format(region=region, community=community, host=host, port=port, folder=folder, root=f"{ROOT}/{VERSION}")


def _proofs(communities: Sequence[str]) -> Iterator[str]:
    """What everybody in the region reads of every community: its epoch and who was elected, which prove themselves."""
    for community in communities:
        yield f"read {_root(community)}/coordinator/epoch"
        yield f"read {_root(community)}/election/+/certificate"


def _access(lines: Sequence[str]) -> str:
    return "\n".join(["# Made by `commonwatt-coordinator init-region`. Patterns without %u are meant for every name.", *lines]) + "\n"


def _root(name: str) -> str:
    return f"{ROOT}/{VERSION}/{name}"
