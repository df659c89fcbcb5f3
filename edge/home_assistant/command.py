"""`commonwatt-edge home-assistant`: show what Home Assistant is told, or take the household out of it again. A shell."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path


def add_home_assistant_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the parser of `commonwatt-edge`."""
    parser = commands.add_parser(
        "home-assistant",
        help="show what Home Assistant is told of this household, or take the household out of it",
        description="Print the MQTT device discovery payload. With --remove, clear what is retained of it on the configured broker.",
        epilog="Exit status 0: done; 1: the broker did not acknowledge the removal; 2: the configuration cannot be used.",
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration, a TOML file")
    parser.add_argument("--remove", action="store_true", help="remove the device and its entities; stop the edge first")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from edge.config import load_config
    from edge.home_assistant.bridge import forget_household
    from edge.home_assistant.discovery import Appearance

    config = load_config(args.config)
    if not args.remove:
        sys.stdout.write(Appearance(config).payload().decode() + "\n")
        return 0
    done = asyncio.run(forget_household(config, args.config.resolve().parent))
    where = f"{config.home_assistant.broker.host}:{config.home_assistant.broker.port}"
    sys.stdout.write(f"removed from {where}\n" if done else f"the broker at {where} did not acknowledge the removal\n")
    return 0 if done else 1
