"""The command line of the edge. Results go to stdout, logs to stderr; exit 0 done, 1 the answer is no, 2 usage or configuration."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

import msgspec

from edge.commissioning.parsers import add_init_parser
from edge.enrolment.command import add_enrolment_parsers
from edge.errors import ConfigurationError, EdgeError
from edge.home_assistant.command import add_home_assistant_parser
from edge.leadership.command import add_proofs_parser
from edge.probe import add_probe_parser
from edge.upkeep.parsers import add_upkeep_parsers
from protocols.arguments import number, whole

DESCRIPTION = "The controller of one household: it keeps the connection point inside its envelope."

KEYS_EPILOG = (
    "The household's key is made once, with: openssl genpkey -algorithm ed25519 -out home.key && chmod 600 home.key; the coordinator gets "
    "its public part: openssl pkey -in home.key -pubout -out home.pub."
)


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand."""
    parser = _parser()
    args = parser.parse_args(argv)
    level = getattr(logging, args.log_level.upper())
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # What fails on a fieldbus is told in the edge's own words, once.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    try:
        status: int = args.run(args)
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except EdgeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="commonwatt-edge", description=DESCRIPTION)
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info", help="what to log on stderr (default info)"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    run = commands.add_parser(
        "run", help="control the household", description="Control the household until SIGTERM or SIGINT.", epilog=KEYS_EPILOG
    )
    _add_config(run)
    run.add_argument("--cycles", type=whole(least=1), metavar="N", help="stop after N control cycles")
    run.add_argument("--plain", action="store_true", help="log lines alone, also on a terminal")
    run.set_defaults(run=_run)
    add_init_parser(commands)
    add_enrolment_parsers(commands)
    add_probe_parser(commands)
    add_upkeep_parsers(commands)
    add_home_assistant_parser(commands)
    add_proofs_parser(commands)
    check = commands.add_parser(
        "check-config", help="say whether a configuration can be used", description="Check a configuration; print one line."
    )
    _add_config(check)
    check.add_argument("--json", action="store_true", help="print one JSON document")
    check.set_defaults(run=_check)
    commission = commands.add_parser(
        "commission",
        help="let a household join its community for the first time",
        description="Say on the disk that this household has never voted nor reported. Done once, by its installer.",
    )
    _add_config(commission)
    commission.set_defaults(run=_commission)
    plan = commands.add_parser(
        "plan", help="show the plan that a configuration makes", description="Plan the hours ahead. No device is read or written."
    )
    _add_config(plan)
    plan.add_argument("--forecasts", type=Path, metavar="CSV", help="columns load_w and pv_w, one row for each interval of the plan")
    plan.add_argument(
        "--soc", type=number(least=0.0, most=1.0), default=0.5, metavar="FRAC", help="state of charge at the start (default 0.5)"
    )
    plan.add_argument("--start", type=number(least=0.0), metavar="UNIX_S", help="start of the plan in Unix seconds (default now)")
    plan.add_argument("--json", action="store_true", help="print one JSON document")
    plan.set_defaults(run=_plan)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration, a TOML file")


def _run(args: argparse.Namespace) -> int:
    from edge.config import load_config
    from edge.runner import run
    from edge.upkeep.screen import terminal

    config = load_config(args.config)
    try:
        shown = terminal(os.environ, plain=args.plain)
        run(config, args.config.resolve().parent, cycles=args.cycles, environment=os.environ, terminal=shown)
    except ConfigurationError as error:
        raise ConfigurationError(f"{args.config}: {error}") from error
    return 0


def _check(args: argparse.Namespace) -> int:
    from edge.config import load_config

    config = load_config(args.config)
    if args.json:
        sys.stdout.write(msgspec.json.encode({"file": str(args.config), "usable": True, "config": config}).decode() + "\n")
    else:
        sys.stdout.write(f"{args.config}: node {config.identity.node}, {len(config.devices)} devices: usable\n")
    return 0


def _commission(args: argparse.Namespace) -> int:
    from edge.config import load_config
    from edge.leadership.part import commission

    config = load_config(args.config)
    if not config.leadership.enabled:
        raise ConfigurationError(f"{args.config}: leadership is not enabled, so there is nothing to commission - at $.leadership.enabled")
    commission(config, args.config.resolve().parent)
    sys.stdout.write(f"{args.config}: node {config.identity.node} may vote and report\n")
    return 0


def _plan(args: argparse.Namespace) -> int:
    from edge.config import load_config
    from edge.plan_table import default_start_s, make_table, render_text

    config = load_config(args.config)
    start_s = default_start_s() if args.start is None else args.start
    folder = args.config.resolve().parent
    table = make_table(config, start_s=start_s, soc_frac=args.soc, forecasts=args.forecasts, folder=folder)
    sys.stdout.write((msgspec.json.encode(table).decode() if args.json else render_text(table)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
