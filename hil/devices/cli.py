"""`commonwatt-hil devices`: serve simulated houses alone, so that any controller can be tried against them.

Time of the houses runs at `--speed` times wall time through a built-in day of sun, load and vehicle. Every device has a port of its own
(as every device in a house has its own address), or all devices of a house share one port under units 1, 2, 3 ... with `--shared-port`.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import Sequence

import msgspec

from hil.devices.ev_charger_maps import EV_CHARGERS
from hil.devices.house import METERS, House, HouseSpec
from hil.devices.quirks import Quirks
from hil.devices.rtu import RtuConnection
from hil.devices.server import DeviceServer, Endpoint
from hil.errors import HilError

DEFAULT_PORT = 15020
TICK_S = 0.5
SETTLING_S = 60


class ServedDevice(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table: where a device is found and what it is."""

    house: str
    name: str
    kind: str
    host: str
    port: int
    unit: int
    protocol: str
    models: tuple[int, ...]
    map: str


def main(argv: Sequence[str] | None = None) -> int:
    """The command `commonwatt-hil devices`; returns the exit status."""
    return run_devices(devices_parser().parse_args(argv))


def devices_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        prog="commonwatt-hil devices", description="Serve houses of simulated devices on Modbus ports until Ctrl-C."
    )
    parser.add_argument("--houses", type=int, default=1, metavar="N", help="how many houses (default 1)")
    parser.add_argument("--host", default="127.0.0.1", metavar="HOST", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, metavar="PORT", help=f"first port, 0 for any (default {DEFAULT_PORT})")
    parser.add_argument("--shared-port", action="store_true", help="one port per house, devices told apart by unit")
    parser.add_argument("--protocol", choices=("tcp", "rtu"), default="tcp", help="Modbus TCP, or RTU frames over TCP (default tcp)")
    parser.add_argument("--models", choices=("classic", "der"), default="classic", help="SunSpec 101-124 or 701-715 (default classic)")
    parser.add_argument("--phases", type=int, choices=(1, 3), default=1, help="phases of the houses (default 1)")
    parser.add_argument("--pv-w", type=float, default=6_000.0, metavar="W", help="rated PV power, 0 for none (default 6000)")
    parser.add_argument("--battery-wh", type=float, default=10_000.0, metavar="WH", help="battery capacity, 0 for none (default 10000)")
    parser.add_argument("--battery-w", type=float, default=5_000.0, metavar="W", help="battery power (default 5000)")
    parser.add_argument(
        "--ev-charger", choices=(*EV_CHARGERS, "none"), default="alfen-ng9xx", help="register map of the charger (default alfen-ng9xx)"
    )
    parser.add_argument("--meter", choices=METERS, default="sunspec", help="register map of the meter (default sunspec)")
    parser.add_argument("--base-address", type=int, choices=(0, 40000, 50000), default=40000, help="where SunSpec begins (default 40000)")
    parser.add_argument("--common-length", type=int, choices=(65, 66), default=65, help="length of model 1 (default 65)")
    parser.add_argument("--float-models", action="store_true", help="serve 111-113 and 211-213")
    parser.add_argument("--start", default="12:00", metavar="HH:MM", help="time of day to begin at (default 12:00)")
    parser.add_argument("--speed", type=float, default=1.0, metavar="FACTOR", help="how fast the day passes (default 1)")
    parser.add_argument("--duration", type=float, metavar="S", help="stop by itself after S seconds of wall time")
    parser.add_argument("--json", action="store_true", help="print the endpoints as one JSON document")
    return parser


def run_devices(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or the end of `--duration`; 2 when the arguments cannot be used."""
    try:
        start_s = time_of_day_s(args.start)
        _check(args)
        asyncio.run(_serve(args, start_s))
    except HilError as error:
        print(f"commonwatt-hil devices: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0
    return 0


def time_of_day_s(text: str) -> float:
    """Seconds since midnight of "HH:MM"."""
    hours, separator, minutes = text.partition(":")
    if not separator or not hours.isdigit() or not minutes.isdigit() or int(hours) > 23 or int(minutes) > 59:
        raise HilError(f"--start: expected HH:MM, got {text!r}")
    return 3600.0 * int(hours) + 60.0 * int(minutes)


def _check(args: argparse.Namespace) -> None:
    if not 1 <= args.houses <= 1000:
        raise HilError(f"--houses: expected 1 to 1000, got {args.houses}")
    if not 0.0 < args.speed <= 3600.0:
        raise HilError(f"--speed: expected more than 0 and at most 3600, got {args.speed:g}")
    for name in ("pv_w", "battery_wh", "battery_w"):
        if not 0.0 <= getattr(args, name) <= 1e6:
            raise HilError(f"--{name.replace('_', '-')}: expected 0 to 1000000, got {getattr(args, name):g}")
    if not 0 <= args.port <= 65_535 - 4 * args.houses:
        raise HilError(f"--port: expected a port that leaves room for {4 * args.houses} more, got {args.port}")


async def _serve(args: argparse.Namespace, start_s: float) -> None:
    houses = [House(f"house{index:03d}", _spec(args), numbered=args.shared_port) for index in range(1, args.houses + 1)]
    endpoints = _endpoints(houses, args)
    for house in houses:
        for second in range(-SETTLING_S, 0):
            house.advance(start_s + second, 1.0)
    server = DeviceServer(endpoints, connection=RtuConnection if args.protocol == "rtu" else None)
    await server.start()
    try:
        rows = [row for house, group in zip(houses, _grouped(endpoints, args), strict=True) for row in _rows(house, group, args)]
        print(_as_json(rows) if args.json else _as_table(rows), flush=True)
        await _live(houses, start_s, args.speed, args.duration)
    finally:
        await server.stop()


def _spec(args: argparse.Namespace) -> HouseSpec:
    quirks = Quirks(base_address=args.base_address, common_length=args.common_length, float_models=args.float_models)
    no_charger = args.ev_charger == "none"
    return HouseSpec(
        pv_w=args.pv_w,
        battery_wh=args.battery_wh,
        battery_w=args.battery_w,
        ev_max_a=0.0 if no_charger else 32.0,
        ev_charger="alfen-ng9xx" if no_charger else args.ev_charger,
        meter=args.meter,
        phases=args.phases,
        generation=args.models,
        quirks=quirks,
    )


def _endpoints(houses: Sequence[House], args: argparse.Namespace) -> tuple[Endpoint, ...]:
    endpoints: list[Endpoint] = []

    def add(*devices: object) -> None:
        port = args.port if args.port == 0 else args.port + len(endpoints)
        endpoints.append(Endpoint(devices=devices, host=args.host, port=port))  # type: ignore[arg-type]

    for house in houses:
        if args.shared_port:
            add(*house.devices)
        else:
            for device in house.devices:
                add(device)
    return tuple(endpoints)


def _grouped(endpoints: Sequence[Endpoint], args: argparse.Namespace) -> list[Sequence[Endpoint]]:
    size = len(endpoints) // args.houses
    return [endpoints[first : first + size] for first in range(0, len(endpoints), size)]


def _rows(house: House, endpoints: Sequence[Endpoint], args: argparse.Namespace) -> list[ServedDevice]:
    return [
        ServedDevice(
            house=house.name,
            name=device.name,
            kind=device.kind,
            host=endpoint.host,
            port=endpoint.port,
            unit=device.unit,
            protocol=args.protocol,
            models=device.model_ids,
            map=device.map_name,
        )
        for endpoint in endpoints
        for device in endpoint.devices
    ]


def _as_json(rows: Sequence[ServedDevice]) -> str:
    return json.dumps({"devices": [msgspec.to_builtins(row) for row in rows]}, indent=2)


def _as_table(rows: Sequence[ServedDevice]) -> str:
    lines = [f"{'device':<20} {'kind':<11} {'endpoint':<21} {'unit':>4}  models"]
    for row in rows:
        models = " ".join(str(model) for model in row.models) if row.models else row.map
        lines.append(f"{row.name:<20} {row.kind:<11} {f'{row.host}:{row.port}':<21} {row.unit:>4}  {models}")
    lines.append(f"{len(rows)} devices, Modbus {rows[0].protocol.upper()}; Ctrl-C ends.")
    return "\n".join(lines)


async def _live(houses: Sequence[House], start_s: float, speed: float, duration_s: float | None) -> None:
    """Let time pass; the houses catch up with the wall clock in steps of one tick."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    begun_s = time.monotonic()
    now_s = start_s
    while not stopped.is_set():
        elapsed_s = time.monotonic() - begun_s
        if duration_s is not None and elapsed_s >= duration_s:
            return
        dt_s = start_s + speed * elapsed_s - now_s
        if dt_s > 0.0:
            for house in houses:
                house.advance(now_s, dt_s)
            now_s += dt_s
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), TICK_S if duration_s is None else min(TICK_S, duration_s - elapsed_s))


if __name__ == "__main__":
    sys.exit(main())
