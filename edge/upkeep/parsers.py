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


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=f"the configuration, a TOML file (default {DEFAULT_CONFIG})"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def _status(args: argparse.Namespace) -> int:
    from edge.upkeep.status import status

    return status(args)
