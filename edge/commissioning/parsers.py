"""The arguments of `init`. What it does is imported when it is wanted."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge.upkeep.parsers import DEFAULT_CONFIG
from protocols.arguments import number, whole

DEFAULT_IDENTITY = Path("/var/lib/commonwatt-edge/identity")

EPILOG = (
    "ADDRESS is HOST (port 502), HOST:PORT, HOST:FIRST-LAST, a network of at most 256 addresses (192.168.1.0/24), or a serial port "
    "(/dev/ttyUSB0). To find out which way the meter counts, a battery or PV system is moved by 300 to 1000 W for half a minute and "
    "brought back; --no-step leaves that out, and then nothing at all is written to any device."
)


def add_init_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `init` to the parser of `commonwatt-edge`."""
    power_w = number(least=0.0, most=10e6)
    init = commands.add_parser(
        "init",
        help="find the devices of a household and write its configuration",
        description="Scan addresses, identify devices, check the meter's sign, and write a configuration with comments.",
        epilog=EPILOG,
    )
    init.add_argument("address", nargs="+", metavar="ADDRESS", help="where to look")
    init.add_argument("--import-rating-w", type=power_w, required=True, metavar="W", help="what the connection can import, e.g. 14490")
    init.add_argument("--export-rating-w", type=power_w, required=True, metavar="W", help="what it can export")
    init.add_argument(
        "--contract-export-w", type=power_w, default=1500.0, metavar="W", help="export allowed while nothing is known (default 1500)"
    )
    init.add_argument("--timezone", metavar="ZONE", help="such as Australia/Melbourne (default: that of this machine)")
    init.add_argument("--latitude-deg", type=number(least=-90.0, most=90.0), metavar="DEG", help="north is positive; for forecasts of PV")
    init.add_argument("--longitude-deg", type=number(least=-180.0, most=180.0), metavar="DEG", help="east is positive; for forecasts of PV")
    init.add_argument("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=f"what to write (default {DEFAULT_CONFIG})")
    init.add_argument("--replace", action="store_true", help="write over a configuration; the old one is kept as FILE.old")
    init.add_argument(
        "--identity", type=Path, default=DEFAULT_IDENTITY, metavar="FOLDER", help=f"where `enrol` put keys (default {DEFAULT_IDENTITY})"
    )
    init.add_argument("--units", default="1", metavar="UNITS", help="Modbus units to ask, such as 1-5 or 1,3,126 (default 1)")
    init.add_argument(
        "--profile",
        action="append",
        default=[],
        metavar="FILE",
        help="a device that answers by this register-map profile (a file or a shipped one) is one, also while it measures no voltage",
    )
    init.add_argument("--only-profile", action="store_true", help="try no profiles but those of --profile")
    init.add_argument("--meter", metavar="WHICH", help="the meter at the connection point, by name or address, where there are several")
    init.add_argument("--no-step", action="store_true", help="leave the check of the meter's sign out; nothing is written to devices")
    init.add_argument("--baud", type=whole(least=1), default=9600, metavar="BAUD", help="baud rate of serial ports (default 9600)")
    init.add_argument("--parity", choices=("N", "E", "O"), default="N", help="parity of serial ports (default N)")
    init.add_argument("--rtu-over-tcp", action="store_true", help="the hosts are serial gateways that speak RTU frames")
    init.add_argument(
        "--timeout-s", type=number(above=0.0, most=60.0), default=1.0, metavar="S", help="how long to wait for an answer (default 1)"
    )
    init.set_defaults(run=_init)


def _init(args: argparse.Namespace) -> int:
    from edge.commissioning.command import init

    return init(args)
