"""The arguments of `status` and `doctor`. What they do is imported when it is wanted."""

from __future__ import annotations

import argparse
from pathlib import Path

DEFAULT_CONFIG = Path("/etc/commonwatt-edge/edge.toml")
"""Where the package's service has it."""


def add_upkeep_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both subcommands to the parser of `commonwatt-edge`."""
    status = commands.add_parser(
        "status",
        help="show the present state in one screen",
        description="Ask the running edge; where none runs, say what its disk remembers. Exit status 0: it runs and controls.",
    )
    _add_common(status)
    status.set_defaults(run=_status)
    doctor = commands.add_parser(
        "doctor",
        help="examine everything the edge depends on, and say what to do",
        description="Clock, disk, keys, certificates, broker, devices, last envelope: each with a verdict and a remedy.",
        epilog="Exit status 0: nothing is broken (there may be warnings); 1: something is; 2: the configuration cannot be used. Devices are"
        " asked only while no edge runs, because many take one connection; nothing is written to them.",
    )
    _add_common(doctor)
    doctor.set_defaults(run=_doctor)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=f"the configuration, a TOML file (default {DEFAULT_CONFIG})"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def _status(args: argparse.Namespace) -> int:
    from edge.upkeep.status import status

    return status(args)


def _doctor(args: argparse.Namespace) -> int:
    from edge.upkeep.doctor import doctor

    return doctor(args)
