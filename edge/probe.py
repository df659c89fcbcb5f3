"""`commonwatt-edge probe`: what is at a Modbus address, and what the edge could do with it.

Scans for a SunSpec map and shows every model, point, value and unit, then says in plain words which roles the device can play and what
it cannot do. With a profile it reads the device by that register map instead. Nothing is written. A shell.
"""

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from edge.devices.driver import RegisterDevice
from edge.devices.mapping import Capabilities, DeviceMap
from edge.devices.profile import bind_profile, load_profile, shipped_profiles
from edge.devices.ratings import Ratings
from edge.devices.sunspec.codec import Values, decode_model
from edge.devices.sunspec.discovery import BASES, FoundModel, discover, read_model
from edge.devices.sunspec.fields import SURVEYED, Survey
from edge.devices.sunspec.layout import Point, layouts
from edge.devices.sunspec.roles import bind
from edge.devices.sunspec.tables import SYMBOLS
from edge.devices.transport import RegisterClient, SerialLine, TransportOptions
from edge.errors import DeviceError, EdgeError, ProfileError
from edge.values import DeviceKind, Reading
from protocols.arguments import number, port, whole

ROLES = (DeviceKind.METER, DeviceKind.PV, DeviceKind.BATTERY)


class ProbedPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One point with its value; `meaning` names the value of an enumeration, `writable` says that a client may write it."""

    name: str
    value: float | int | str | None
    unit: str = ""
    meaning: str = ""
    writable: bool = False


class ProbedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model; `trouble` says why it has no points."""

    id: int
    name: str
    address: int
    length: int
    points: tuple[ProbedPoint, ...] = ()
    trouble: str = ""


class ProbedRole(msgspec.Struct, frozen=True, kw_only=True):
    """The device as the edge would use it; `reading` is one measurement with the signs of the edge."""

    kind: DeviceKind
    capabilities: Capabilities
    reading: Reading | None = None
    requests_per_cycle: int = 0
    trouble: str = ""


class ProbeResult(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found at one unit."""

    where: str
    unit: int
    identity: str
    base: int | None
    models: tuple[ProbedModel, ...] = ()
    roles: tuple[ProbedRole, ...] = ()
    notes: tuple[str, ...] = ()


async def probe(client: RegisterClient, unit: int, *, where: str = "", bases: Sequence[int] = BASES, now_s: float = 0.0) -> ProbeResult:
    """Scan one unit for a SunSpec map; raises a `DeviceError` where there is none."""
    device = await discover(client, unit, bases)
    models: list[ProbedModel] = []
    registers: dict[int, Sequence[int]] = {}
    for model in device.models:
        models.append(await _probe_model(client, unit, model, registers))
    survey = Survey(device, registers)
    roles: list[ProbedRole] = []
    for kind in ROLES:
        try:
            device_map = bind(device, survey, kind, Ratings())
        except ProfileError:
            continue
        role, _ = await _read_role(client, unit, kind, device_map, now_s)
        roles.append(role)
    return ProbeResult(
        where=where,
        unit=unit,
        identity=survey.identity,
        base=device.base,
        models=tuple(models),
        roles=tuple(roles),
        notes=device.notes,
    )


async def probe_profile(client: RegisterClient, unit: int, name: str, *, where: str = "", now_s: float = 0.0) -> ProbeResult:
    """Read one unit by a register-map profile."""
    profile = load_profile(name)
    device_map = bind_profile(profile, Ratings())
    role, numbers = await _read_role(client, unit, profile.kind, device_map, now_s)
    points = tuple(ProbedPoint(name=p.name, value=numbers.get(p.name), unit=p.unit) for p in profile.point)
    first = min(point.address for point in profile.point)
    model = ProbedModel(id=0, name=profile.name, address=first, length=len(profile.point), points=points)
    return ProbeResult(where=where, unit=unit, identity=profile.title, base=None, models=(model,), roles=(role,), notes=(profile.document,))


async def _probe_model(client: RegisterClient, unit: int, model: FoundModel, registers: dict[int, Sequence[int]]) -> ProbedModel:
    layout = layouts().get(model.id)
    name = "not known to the edge" if layout is None else layout.name
    bare = ProbedModel(id=model.id, name=name, address=model.address, length=model.length)
    if layout is None:
        return bare
    try:
        found = await read_model(client, unit, model)
    except DeviceError as error:
        return msgspec.structs.replace(bare, trouble=str(error))
    if model.id in SURVEYED:
        registers.setdefault(model.id, found)
    values = decode_model(layout, found)
    points = [_probed(model.id, point, values) for point in layout.points if point.type not in ("sf", "pad") and point.offset > 1]
    for group in layout.groups:
        members = values.get(group.name)
        for index, member in enumerate(members if isinstance(members, list) else [members]):
            if isinstance(member, dict):
                prefix = f"{group.name}[{index}]." if isinstance(members, list) else f"{group.name}."
                points += [_probed(model.id, p, member, prefix) for p in group.points if p.type != "sf"]
    return msgspec.structs.replace(bare, points=tuple(points))


def _probed(model_id: int, point: Point, values: Values, prefix: str = "") -> ProbedPoint:
    value = values.get(point.name)
    number = value if isinstance(value, int | float | str) else None
    meaning = SYMBOLS.get((model_id, point.name), {}).get(int(number), "") if isinstance(number, int | float) else ""
    return ProbedPoint(name=prefix + point.name, value=number, unit=point.unit, meaning=meaning, writable=point.writable)


async def _read_role(
    client: RegisterClient, unit: int, kind: DeviceKind, device_map: DeviceMap, now_s: float
) -> tuple[ProbedRole, dict[str, float | None]]:
    async def find(_client: RegisterClient, _unit: int) -> DeviceMap:
        return device_map

    device = RegisterDevice(kind.value, kind, client, unit, find)
    try:
        reading: Reading | None = await device.read(now_s)
        trouble = ""
    except DeviceError as error:
        reading, trouble = None, str(error)
    role = ProbedRole(
        kind=kind,
        capabilities=device_map.capabilities,
        reading=reading,
        requests_per_cycle=len(device_map.fast),
        trouble=trouble,
    )
    return role, device.numbers()


def render_text(result: ProbeResult, *, everything: bool = False) -> str:
    """The result for people: models with the points that are implemented (all of them with `everything`), then the roles."""
    lines = [f"{result.where} unit {result.unit}: {result.identity or 'no identity'}"]
    if result.base is not None:
        lines.append(f"SunSpec map at register {result.base}, {len(result.models)} models")
    for model in result.models:
        heading = f"model {model.id} {model.name}" if model.id else f"profile {model.name}"
        lines.append(f"\n{heading} (register {model.address}, {model.length} {'registers' if model.id else 'points'})")
        if model.trouble:
            lines.append(f"  cannot be read: {model.trouble}")
        for point in model.points:
            if point.value is not None or everything:
                lines.append(f"  {point.name:<22} {_shown(point)}")
    for role in result.roles:
        lines.extend(_role_lines(role))
    lines.extend(f"note: {note}" for note in result.notes)
    return "\n".join(lines)


def _role_lines(role: ProbedRole) -> list[str]:
    can = role.capabilities
    abilities = [
        text
        for able, text in (
            (can.measures_power, "measure its power"),
            (can.limits_generation, "be curtailed"),
            (can.sets_power, "be told its power"),
            (can.limits_draw, "be limited in its draw"),
            (can.stores_energy, "store energy"),
            (can.reverts, "fall back to a chosen value by itself when the controller dies"),
        )
        if able
    ]
    lines = [f"\nas {role.kind.value}: can {', '.join(abilities)}; {role.requests_per_cycle} request(s) per cycle"]
    if role.reading is not None:
        fields = ("power_w", "soc_frac", "rated_w", "capacity_wh", "max_charge_w", "max_discharge_w", "limit_w", "connected")
        known = [(name, getattr(role.reading, name)) for name in fields]
        lines.append("  " + ", ".join(f"{name} {value:.6g}" for name, value in known if value is not None))
        lines.extend(f"  alarm: {alarm}" for alarm in role.reading.alarms)
    if role.trouble:
        lines.append(f"  cannot be read: {role.trouble}")
    lines.extend(f"  note: {note}" for note in can.notes)
    return lines


def _shown(point: ProbedPoint) -> str:
    if point.value is None:
        return "not implemented"
    value = f"{point.value:.10g}" if isinstance(point.value, float) else str(point.value)
    extra = f" ({point.meaning})" if point.meaning else ""
    return f"{value}{' ' + point.unit if point.unit else ''}{extra}{'  [writable]' if point.writable else ''}"


def render_json(result: ProbeResult) -> str:
    """The result as one JSON document; what is not finite becomes null."""

    def plain(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return value

    return json.dumps(plain(msgspec.to_builtins(result)), indent=2, ensure_ascii=False)


def add_probe_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Declare `probe` on an argparse subparsers object."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "probe", help="show what a Modbus device is and can do", description="Scan a Modbus address. Nothing is written."
    )
    parser.add_argument("host", nargs="?", metavar="HOST", help="host name or address of a Modbus TCP device")
    parser.add_argument("--port", type=port, default=502, metavar="PORT", help="TCP port (default 502)")
    parser.add_argument("--serial", metavar="PORT", help="serial port of a Modbus RTU device, instead of a host")
    parser.add_argument("--baud", type=whole(least=1), default=9600, metavar="BAUD", help="baud rate of the serial port (default 9600)")
    parser.add_argument("--parity", choices=("N", "E", "O"), default="N", help="parity of the serial port (default N)")
    parser.add_argument("--rtu-over-tcp", action="store_true", help="the host is a serial gateway that speaks RTU frames")
    parser.add_argument("--unit", type=whole(least=0, most=255), default=1, metavar="UNIT", help="Modbus unit (default 1)")
    parser.add_argument(
        "--timeout-s", type=number(above=0.0, most=60.0), default=2.0, metavar="S", help="how long to wait for an answer (default 2)"
    )
    parser.add_argument(
        "--profile", metavar="FILE", help=f"register-map profile instead of SunSpec: a file or one of {', '.join(shipped_profiles())}"
    )
    parser.add_argument("--all", action="store_true", help="show points that are not implemented too")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run_probe)
    return parser


def run_probe(args: argparse.Namespace) -> int:
    """Carry out `probe`: 0 found, 1 nothing usable there, 2 wrong arguments."""
    if (args.host is None) == (args.serial is None):
        sys.stderr.write("probe: expected HOST or --serial PORT, and not both\n")
        return 2
    try:
        result = asyncio.run(_probe_address(args))
    except ProfileError as error:
        sys.stderr.write(f"probe: {error}\n")
        return 2 if args.profile else 1
    except EdgeError as error:
        sys.stderr.write(f"probe: {error}\n")
        return 1
    text = render_json(result) if args.json else render_text(result, everything=args.all)
    sys.stdout.write(text + "\n")
    return 0


async def _probe_address(args: argparse.Namespace) -> ProbeResult:
    from edge.devices.modbus import ModbusClient, ModbusRtuClient, ModbusTcpClient

    options = TransportOptions(timeout_s=args.timeout_s, late_s=args.timeout_s)
    client: ModbusClient
    if args.serial is not None:
        where = args.serial
        client = ModbusRtuClient(SerialLine(port=args.serial, baud=args.baud, parity=args.parity), options=options)
    else:
        where = f"{args.host}:{args.port}"
        client = ModbusTcpClient(args.host, args.port, framing="rtu" if args.rtu_over_tcp else "tcp", options=options)
    try:
        if args.profile:
            return await probe_profile(client, args.unit, args.profile, where=where)
        return await probe(client, args.unit, where=where)
    finally:
        await client.close()
