"""The arguments of the enrolment commands of `commonwatt-coordinator`. Imports nothing heavy; `command` does the work."""

from __future__ import annotations

import argparse
from pathlib import Path

from coordinator.enrolment.authority import NODE_DAYS


def add_enrolment_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommands to the parser of `commonwatt-coordinator`."""
    make = commands.add_parser("init", help="make a community: authority, broker configuration, keys, first administrator")
    make.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder for all of it")
    make.add_argument("--community", required=True, metavar="NAME", help="its name on the bus: letters, digits, _ and -")
    make.add_argument("--network", required=True, help="the feeder: built-in case (ieee33, ieee69), folder or file")
    make.add_argument("--host", action="append", help="name or address of this machine for nodes; repeatable (default its host name)")
    make.add_argument("--port", type=_port, default=8883, help="MQTT over TLS (default 8883)")
    make.add_argument("--websockets-port", type=_port, default=8884, help="MQTT over websockets over TLS, for the page (default 8884)")
    make.add_argument(
        "--page-port", type=_port, default=8885, help="the page's server reaches its broker here, on this machine alone (default 8885)"
    )
    make.add_argument("--address", help="listen on this address alone (default all)")
    make.add_argument("--administrator", default="operator", metavar="NAME", help="first identity that watches (default operator)")
    make.add_argument("--broker-user", metavar="USER", help="who Mosquitto becomes when root starts it (default mosquitto, if it is known)")
    make.add_argument("--passphrase-file", type=Path, metavar="FILE", help="of the authority's key; made where it is absent")
    make.set_defaults(enrolment=True, command="init")

    invite = commands.add_parser("enrol", help="invite a household: write a bundle that works once")
    invite.add_argument("node", metavar="NODE", help="its name on the bus")
    invite.add_argument("--connection", required=True, metavar="NAME", help="its connection in the network")
    invite.add_argument("--import-rating-w", type=float, default=15e3, metavar="W", help="what the connection may import (default 15000)")
    invite.add_argument("--export-rating-w", type=float, default=10e3, metavar="W", help="what the connection may export (default 10000)")
    invite.add_argument("--valid-hours", type=_hours, default=72.0, metavar="H", help="how long the bundle works (default 72)")
    invite.add_argument("--out", type=Path, metavar="FILE", help="default NODE.bundle; - for standard output")
    _add_folder(invite)
    invite.set_defaults(enrolment=True, command="enrol")

    sign = commands.add_parser("accept", help="sign the request that a household made, once")
    sign.add_argument("request", type=Path, metavar="REQUEST", help="what `commonwatt-edge enrol` or `renew` wrote; - for standard input")
    sign.add_argument("--days", type=_days, default=NODE_DAYS, help=f"life of the certificate (default {NODE_DAYS})")
    sign.add_argument("--out", type=Path, metavar="FILE", help="default NODE.answer; - for standard output")
    _add_folder(sign, passphrase=True)
    sign.set_defaults(enrolment=True, command="accept")

    remove = commands.add_parser("revoke", help="take a member out: refused, silenced and cut off at once")
    remove.add_argument("name", metavar="NAME", help="a node, or admin.NAME")
    _add_folder(remove, passphrase=True)
    remove.set_defaults(enrolment=True, command="revoke")

    again = commands.add_parser("renew", help="new key and certificate of the brokers, the coordinator or an administrator")
    again.add_argument("name", metavar="NAME", help="broker, page, coordinator or admin.NAME (made if it is new)")
    _add_folder(again, passphrase=True)
    again.set_defaults(enrolment=True, command="renew")

    token = commands.add_parser("page-token", help="give a household or an administrator a token for the page; it is shown once")
    token.add_argument("name", metavar="NAME", help="an enrolled node, or admin.NAME")
    token.add_argument("--remove", action="store_true", help="take the token back instead")
    _add_folder(token)
    token.set_defaults(enrolment=True, command="page_token")

    show = commands.add_parser("members", help="list members and when their certificates expire; exit status 1 with a warning")
    show.add_argument("--warn-days", type=float, default=30.0, help="warn this long before (default 30)")
    show.add_argument("--json", action="store_true", help="one JSON document on stdout")
    _add_folder(show)
    show.set_defaults(enrolment=True, command="members")


def _add_folder(parser: argparse.ArgumentParser, *, passphrase: bool = False) -> None:
    parser.add_argument("--folder", type=Path, default=Path(), metavar="FOLDER", help="the community's folder (default here)")
    if passphrase:
        parser.add_argument("--passphrase-file", type=Path, metavar="FILE", help="of the authority's key (default where init left it)")


def _port(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, got {text}")
    return value


def _hours(text: str) -> float:
    value = float(text)
    if not 0.0 < value <= 720.0:
        raise argparse.ArgumentTypeError(f"expected hours from above 0 to 720, got {text}")
    return value


def _days(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 3650:
        raise argparse.ArgumentTypeError(f"expected days from 1 to 3650, got {text}")
    return value
