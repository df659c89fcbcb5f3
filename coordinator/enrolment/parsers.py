"""The arguments of the enrolment commands of `commonwatt-coordinator`. Imports nothing heavy; `command` does the work."""

from __future__ import annotations

import argparse
from pathlib import Path

from coordinator.enrolment.authority import NODE_DAYS
from protocols.arguments import add_command, magnitude, number, port, whole


def add_enrolment_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommands to the parser of `commonwatt-coordinator`."""
    make = add_command(commands, "init", "make a community: authority, broker configuration, keys, first administrator")
    make.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder for all of it")
    make.add_argument("--community", required=True, metavar="NAME", help="its name on the bus: letters, digits, _ and -")
    make.add_argument("--network", required=True, metavar="NETWORK", help="the feeder: built-in case (ieee33, ieee69), folder or file")
    make.add_argument(
        "--host", action="append", metavar="HOST", help="name or address of this machine for nodes; repeatable (default its host name)"
    )
    make.add_argument("--port", type=port, default=8883, metavar="PORT", help="MQTT over TLS (default 8883)")
    make.add_argument("--websockets-port", type=port, default=8884, metavar="PORT", help="websockets over TLS, for the page (default 8884)")
    make.add_argument(
        "--page-port",
        type=port,
        default=8885,
        metavar="PORT",
        help="the page's server reaches its broker here, on this machine alone (default 8885)",
    )
    make.add_argument("--address", metavar="ADDRESS", help="listen on this address alone (default all)")
    make.add_argument("--administrator", default="operator", metavar="NAME", help="first identity that watches (default operator)")
    make.add_argument("--broker-user", metavar="USER", help="who Mosquitto becomes when root starts it (default mosquitto, if it is known)")
    make.add_argument(
        "--passphrase-file", type=Path, metavar="FILE", help="of the authority's key; made where it is absent (default: in FOLDER)"
    )
    make.set_defaults(enrolment=True, command="init")
    _add_arrivals(commands)
    _add_members(commands)


def _add_arrivals(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """How a household comes in: `enrol` and `accept`."""
    invite = add_command(commands, "enrol", "invite a household: write a bundle that works once")
    invite.add_argument("node", metavar="NODE", help="its name on the bus")
    invite.add_argument("--connection", required=True, metavar="NAME", help="its connection in the network")
    invite.add_argument(
        "--import-rating-w", type=magnitude, default=15e3, metavar="W", help="what the connection may import (default 15000)"
    )
    invite.add_argument(
        "--export-rating-w", type=magnitude, default=10e3, metavar="W", help="what the connection may export (default 10000)"
    )
    invite.add_argument(
        "--valid-hours", type=number(above=0.0, most=720.0), default=72.0, metavar="H", help="how long the bundle works (default 72)"
    )
    invite.add_argument("--out", type=Path, metavar="FILE", help="the bundle to write (default NODE.bundle, - for standard output)")
    _add_folder(invite)
    invite.set_defaults(enrolment=True, command="enrol")

    sign = add_command(commands, "accept", "sign the request that a household made, once")
    sign.add_argument("request", type=Path, metavar="REQUEST", help="what `commonwatt-edge enrol` or `renew` wrote; - for standard input")
    sign.add_argument(
        "--days",
        type=whole(least=1, most=3650),
        default=NODE_DAYS,
        metavar="N",
        help=f"life of the certificate in days (default {NODE_DAYS})",
    )
    sign.add_argument("--out", type=Path, metavar="FILE", help="the answer to write (default NODE.answer, - for standard output)")
    _add_folder(sign, passphrase=True)
    sign.set_defaults(enrolment=True, command="accept")


def _add_members(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """What becomes of members: `revoke`, `renew`, `page-token`, `members`."""
    remove = add_command(commands, "revoke", "take a member out: refused, silenced and cut off at once")
    remove.add_argument("name", metavar="NAME", help="a node, or admin.NAME")
    _add_folder(remove, passphrase=True)
    remove.set_defaults(enrolment=True, command="revoke")

    again = add_command(commands, "renew", "new key and certificate of the brokers, the coordinator or an administrator")
    again.add_argument("name", metavar="NAME", help="broker, page, coordinator or admin.NAME (made if it is new)")
    _add_folder(again, passphrase=True)
    again.set_defaults(enrolment=True, command="renew")

    token = add_command(commands, "page-token", "give a household or an administrator a token for the page; it is shown once")
    token.add_argument("name", metavar="NAME", help="an enrolled node, or admin.NAME")
    token.add_argument("--remove", action="store_true", help="take the token back instead")
    _add_folder(token)
    token.set_defaults(enrolment=True, command="page_token")

    show = add_command(commands, "members", "list members and when their certificates expire; exit status 1 with a warning")
    show.add_argument("--warn-days", type=magnitude, default=30.0, metavar="N", help="warn N days before (default 30)")
    show.add_argument("--json", action="store_true", help="print one JSON document")
    _add_folder(show)
    show.set_defaults(enrolment=True, command="members")


def _add_folder(parser: argparse.ArgumentParser, *, passphrase: bool = False) -> None:
    parser.add_argument("--folder", type=Path, default=Path(), metavar="FOLDER", help="the community's folder (default here)")
    if passphrase:
        parser.add_argument("--passphrase-file", type=Path, metavar="FILE", help="of the authority's key (default where init left it)")
