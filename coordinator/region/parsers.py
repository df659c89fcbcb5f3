"""The arguments of the commands that make a region and let communities in. Imports nothing heavy; `command` does the work."""

from __future__ import annotations

import argparse
from pathlib import Path

from protocols.arguments import add_command, port


def add_region_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommands to the parser of `commonwatt-coordinator`."""
    make = add_command(commands, "init-region", "make a region of communities: authority, broker with a listener for each, keys")
    make.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder for all of it")
    make.add_argument("--region", required=True, metavar="NAME", help="its name on the bus: letters, digits, _ and -")
    make.add_argument(
        "--community",
        nargs=2,
        action="append",
        required=True,
        metavar=("NAME", "FOLDER"),
        help="a community, and its folder or one with its authority.pem, revoked.pem and coordinator.pub; repeat it",
    )
    make.add_argument("--host", action="append", metavar="HOST", help="name or address of this machine; repeatable (default its host name)")
    make.add_argument(
        "--port", type=port, default=8893, metavar="PORT", help="the region's coordinator; communities get those after it (default 8893)"
    )
    make.add_argument("--address", metavar="ADDRESS", help="listen on this address alone (default all)")
    make.add_argument("--broker-user", metavar="USER", help="who Mosquitto becomes when root starts it (default mosquitto, if it is known)")
    make.set_defaults(command="init_region")

    enter = add_command(commands, "join-region", "let a community's broker tell a region who leads")
    enter.add_argument("invitation", type=Path, metavar="INVITATION", help="the folder for-NAME that `init-region` made")
    enter.add_argument("--folder", type=Path, default=Path(), metavar="FOLDER", help="the community's folder (default here)")
    enter.set_defaults(command="join")
