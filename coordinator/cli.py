"""`commonwatt-coordinator`: run the service, or ask the same code one question.

Results go to stdout (`--json`: exactly one JSON document), progress and logs to stderr. Exit 0: done, or yes; 1: the answer is no
(findings, a broken limit, no envelope); 2: usage or configuration.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from coordinator.enrolment.parsers import add_enrolment_parsers
from coordinator.errors import CoordinatorError, PowerFlowError
from coordinator.region.parsers import add_region_parsers
from protocols.arguments import add_command, magnitude, number, positive, whole
from protocols.errors import ProtocolError

NETWORK_HELP = "built-in case (ieee33, ieee69), folder of CSV tables, or .m (MATPOWER), .dss (OpenDSS), .json (pandapower) file"
RULES = ("equal", "proportional-fair", "least-curtailment", "max-volume")
CLASSES = ("robust", "coincident")
EXIT_NO, EXIT_USAGE = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    # The matrices here are small: more threads for linear algebra only wait for each other. Must precede the first import of numpy.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    arguments = _parser().parse_args(argv)
    level = logging.DEBUG if arguments.verbose else logging.INFO
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        return int(getattr(_module(arguments), arguments.command)(arguments))
    except (CoordinatorError, ProtocolError) as error:
        sys.stderr.write(f"commonwatt-coordinator: {error}\n")
        return EXIT_NO if isinstance(error, PowerFlowError) else EXIT_USAGE


def _module(arguments: argparse.Namespace) -> ModuleType:
    """Where the subcommand is; imported when it is wanted, because some bring the numerics."""
    if "enrolment" in arguments:
        from coordinator.enrolment import command

        return command
    if "page" in arguments:
        from coordinator.page import command as page_command

        return page_command
    if arguments.command in ("region", "init_region", "join"):
        from coordinator.region import command as region_command

        return region_command
    if arguments.command in ("proofs", "settle"):
        from coordinator.aggregation import command as aggregation_command

        return aggregation_command
    if arguments.command == "clear":
        from coordinator import clearing

        return clearing
    from coordinator import commands

    return commands


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="commonwatt-coordinator", description="The operator's side of a feeder.")
    parser.add_argument("--verbose", action="store_true", help="log what happens in detail, on stderr")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="run the service: collect telemetry, publish rolling verified envelopes",
        description="Run the service: collect telemetry, publish rolling verified envelopes, until SIGTERM or SIGINT.",
        epilog="Keys are Ed25519 in PEM: openssl genpkey -algorithm ed25519 -out coordinator.key (mode 600), and the public half by"
        " openssl pkey -in coordinator.key -pubout.",
    )
    run.add_argument("--config", type=Path, required=True, metavar="FILE", help="TOML file of the feeder's coordinator")
    run.add_argument("--step-s", type=positive, default=1.0, metavar="S", help="seconds between two steps (default 1)")
    run.set_defaults(command="run")

    region = add_command(commands, "region", "a region: number the epochs in which the leaders of its communities elect one of them")
    region.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="TOML file of the region: its communities and their coordinators' keys"
    )
    region.set_defaults(command="region")
    add_region_parsers(commands)

    proven = add_command(commands, "proofs", "what was proven against whom in elections and secret sums, verified again")
    proven.epilog = "Exit status 1 where a record proves nothing."
    proven.add_argument("--config", type=Path, required=True, metavar="FILE", help="TOML file of the feeder's coordinator")
    proven.add_argument("--json", action="store_true", help="print one JSON document")
    proven.set_defaults(command="proofs")

    compared = add_command(commands, "settle", "hold what members declared of their plans, and opened, against your own meter")
    compared.epilog = "Exit status 1 where a declaration is disproved."
    compared.add_argument("--config", type=Path, required=True, metavar="FILE", help="TOML file of the feeder's coordinator")
    compared.add_argument(
        "--meter", type=Path, required=True, metavar="FILE", help="CSV with columns node,start_s,duration_s,net_import_w (means)"
    )
    compared.add_argument("--convict", action="store_true", help="record a conviction, which the running service takes up")
    compared.add_argument("--json", action="store_true", help="print one JSON document")
    compared.set_defaults(command="settle")

    page = commands.add_parser(
        "page",
        help="serve the page: the community in a browser, live and for days that have passed",
        description="A process of its own beside `run`: it commands nothing and holds no signing key. Its broker is broker/page.conf.",
    )
    page.add_argument("--config", type=Path, required=True, metavar="FILE", help="TOML file of the feeder's coordinator; section [page]")
    page.set_defaults(page=True, command="page")

    add_enrolment_parsers(commands)

    _add_computations(commands)

    examine = add_command(commands, "check-network", "print everything that is wrong with a network")
    examine.add_argument("network", metavar="NETWORK", help=NETWORK_HELP)
    examine.add_argument("--radial", action="store_true", help="loops are errors too")
    examine.add_argument("--json", action="store_true", help="print one JSON document")
    examine.set_defaults(command="check_network")
    return parser


def _add_computations(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """What is computed once, without a service: envelopes, a power flow, switches, a clearing."""
    ask = add_command(commands, "envelopes", "compute verified envelopes for one interval")
    _network_arguments(ask)
    ask.add_argument(
        "--rule", choices=RULES, default="proportional-fair", help="how what the feeder can carry is shared out (default proportional-fair)"
    )
    ask.add_argument(
        "--class",
        dest="guarantee",
        choices=CLASSES,
        default="robust",
        help="guarantee class: robust covers every mixture inside the box, coincident only moving together (default robust)",
    )
    ask.add_argument(
        "--max-import-w", type=magnitude, default=10e3, metavar="W", help="most that a connection could import (default 10000)"
    )
    ask.add_argument(
        "--max-export-w", type=magnitude, default=10e3, metavar="W", help="most that a connection could export (default 10000)"
    )
    ask.add_argument("--import-floor-w", type=magnitude, default=0.0, metavar="W", help="least import that each is given (default 0)")
    ask.add_argument("--export-floor-w", type=magnitude, default=0.0, metavar="W", help="least export that each is given (default 0)")
    ask.add_argument(
        "--q-per-w", type=number(), default=0.0, metavar="VAR", help="reactive power assumed per watt into a connection (default 0)"
    )
    ask.set_defaults(command="envelopes")

    flow = add_command(commands, "powerflow", "solve the AC power flow and print losses, voltages and loading")
    _network_arguments(flow)
    flow.add_argument(
        "--loads", type=Path, metavar="CSV", help="CSV with columns connection,p_w,q_var (into the connection) that replace base loads"
    )
    flow.add_argument("--engine", choices=("pgm", "opendss"), default="pgm", help="power-grid-model or OpenDSS (default pgm)")
    flow.set_defaults(command="powerflow")

    switch = add_command(commands, "reconfigure", "find the switches to open so that the feeder stays radial and loses least")
    _network_arguments(switch)
    switch.add_argument("--every-line", action="store_true", help="every line is a switch, not only those that the file marks")
    switch.add_argument(
        "--tree-limit",
        type=whole(least=0),
        default=1_000_000,
        metavar="N",
        help="prove by enumeration up to this many configurations (default 1000000)",
    )
    switch.add_argument("--profile", type=Path, metavar="CSV", help="CSV with one row per period: plan the switching over them as well")
    switch.add_argument(
        "--column", metavar="NAME", default="load_frac", help="column of the profile that scales the base load (default load_frac)"
    )
    switch.add_argument("--step-s", type=positive, default=3600.0, metavar="S", help="length of a period of the profile (default 3600)")
    switch.add_argument("--loss-price", type=magnitude, default=0.2, metavar="PRICE", help="price of losses per kWh (default 0.2)")
    switch.add_argument("--operation-price", type=magnitude, default=0.0, metavar="PRICE", help="price of one switch operation (default 0)")
    switch.set_defaults(command="reconfigure")

    clearing = commands.add_parser(
        "clear",
        help="clear one mechanism once, for the participants in a file",
        description="PARTICIPANTS is TOML: step_s, retail_per_kwh and feed_in_per_kwh (one price for each interval), loss_per_kwh, and for"
        " each [[participants]] name, bus, fixed_w, renewable_w (watts for each interval) and, where it has them, storage (capacity_wh,"
        " power_w, efficiency_frac, initial_frac, degradation_per_kwh), generator (max_w, first_per_kwh, rise_per_kwh_kw) and flexible"
        " (a list of energy_wh, max_w); for dfe also connection_w and margin_w, how far net import may stray from its plan.",
    )
    _network_arguments(clearing)
    clearing.add_argument("participants", metavar="PARTICIPANTS", type=Path, help="TOML file, see above")
    clearing.add_argument("--mechanism", choices=("p2p", "disco", "dfe"), default="p2p", help="which mechanism (default p2p)")
    clearing.add_argument(
        "--max-rounds", type=whole(least=1), metavar="N", default=300, help="give up after this many rounds (default 300)"
    )
    clearing.set_defaults(command="clear")


def _network_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", metavar="NETWORK", help=NETWORK_HELP)
    parser.add_argument(
        "--vmin-pu", type=positive, metavar="PU", help="lowest voltage, per unit of each bus's nominal (default: the network's)"
    )
    parser.add_argument("--vmax-pu", type=positive, metavar="PU", help="highest voltage, likewise (default: the network's)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


if __name__ == "__main__":
    sys.exit(main())
