"""Looks at every place and says which devices answer there, in which roles. A shell: it opens connections and reads; nothing is written.

A unit is asked for a SunSpec map first, then by each register-map profile. A profile has no mark to know its device by, so it counts as
found only where its registers decode to what such a device can say (mains voltage, a power below 1 MW), and by one profile alone; some
chargers measure no voltage while no vehicle is there, and have to be named. An inverter that answers under every unit number is one device.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from edge.commissioning.targets import SerialTarget, Target, TcpTarget
from edge.commissioning.values import Found, Silence, Survey
from edge.devices.driver import RegisterDevice
from edge.devices.mapping import DeviceMap
from edge.devices.modbus import ModbusClient, ModbusRtuClient, ModbusTcpClient
from edge.devices.profile import bind_profile, load_profile
from edge.devices.ratings import Ratings
from edge.devices.registry import DeviceConfig
from edge.devices.sunspec.discovery import BASES
from edge.devices.sunspec.fields import Survey as SunSpecSurvey
from edge.devices.sunspec.fields import survey
from edge.devices.sunspec.roles import bind
from edge.devices.transport import RegisterClient, SerialLine, TransportOptions
from edge.errors import DeviceError, DeviceUnreachable, EdgeError, ProfileError
from edge.probe import ROLES
from edge.values import DeviceKind, Reading

AT_ONCE: Final = 32
LEAST_MAINS_V: Final = 80.0
MOST_MAINS_V: Final = 300.0
MOST_W: Final = 1e6


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """How to speak: settings of serial lines, how patient to be, and the profiles that somebody named, which need no likelihood."""

    baud: int = 9600
    parity: str = "N"
    timeout_s: float = 1.0
    framing: Literal["tcp", "rtu"] = "tcp"
    trusted: tuple[str, ...] = ()


async def scan(targets: Sequence[Target], units: Sequence[int], profiles: Sequence[str], line: Line, *, now_s: float) -> Survey:
    """Look everywhere; TCP places beside each other, the units of one place one after the other."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(target: Target) -> Survey:
        async with gate:
            return await _place(target, units, profiles, line, now_s)

    parts = await asyncio.gather(*(one(target) for target in targets))
    found = named([device for part in parts for device in part.found])
    return Survey(
        found=tuple(found),
        unused=tuple(entry for part in parts for entry in part.unused),
        silent=tuple(entry for part in parts for entry in part.silent),
    )


def named(found: Sequence[Found]) -> list[Found]:
    """The devices without those found twice, each with a name after its kind: `meter`, `pv-1`, `pv-2`."""
    alone: dict[tuple[str, str, DeviceKind], Found] = {}
    for device in found:
        alone.setdefault((device.identity, device.config.endpoint(), device.kind), device)
    kinds = [device.kind for device in alone.values()]
    counts = dict.fromkeys(kinds, 0)
    result = []
    for device in alone.values():
        counts[device.kind] += 1
        short = "ev" if device.kind is DeviceKind.EV_CHARGER else device.kind.value
        name = short if kinds.count(device.kind) == 1 else f"{short}-{counts[device.kind]}"
        result.append(msgspec.structs.replace(device, config=msgspec.structs.replace(device.config, name=name)))
    return result


async def _place(target: Target, units: Sequence[int], profiles: Sequence[str], line: Line, now_s: float) -> Survey:
    client, where = _open(target, line)
    found: list[Found] = []
    unused: list[Silence] = []
    silent: list[Silence] = []
    try:
        for unit in units:
            try:
                here, ambiguous = await _unit(client, target, unit, profiles, line, now_s)
            except DeviceUnreachable as error:
                return Survey(found=tuple(found), unused=tuple(unused), silent=(Silence(where=where, why=str(error)),))
            except EdgeError as error:
                silent.append(Silence(where=f"{where} unit {unit}", why=str(error)))
                continue
            found += here
            if ambiguous:
                unused.append(Silence(where=f"{where} unit {unit}", why=ambiguous))
        if not found:
            found += await _at_vendors_units(client, target, units, profiles, line, now_s)
    finally:
        await client.close()
    return Survey(found=tuple(found), unused=tuple(unused), silent=tuple(silent))


async def _at_vendors_units(
    client: RegisterClient, target: Target, units: Sequence[int], profiles: Sequence[str], line: Line, now_s: float
) -> list[Found]:
    """Profiles whose devices answer under a unit of their own, such as 255, that nobody asked for."""
    for unit in sorted({load_profile(name).unit for name in profiles} - set(units)):
        usual = [name for name in profiles if load_profile(name).unit == unit]
        with contextlib.suppress(DeviceError):
            here, _ = await _by_profile(client, target, unit, usual, line, now_s, "")
            return here
    return []


def _open(target: Target, line: Line) -> tuple[ModbusClient, str]:
    options = TransportOptions(timeout_s=line.timeout_s, retries=0, late_s=line.timeout_s, backoff_s=0.0)
    if isinstance(target, SerialTarget):
        return ModbusRtuClient(SerialLine(port=target.port, baud=line.baud, parity=line.parity), options=options), target.port
    return ModbusTcpClient(target.host, target.port, framing=line.framing, options=options), f"{target.host}:{target.port}"


async def _unit(
    client: RegisterClient, target: Target, unit: int, profiles: Sequence[str], line: Line, now_s: float
) -> tuple[list[Found], str]:
    """The devices behind one unit, or why there is one that cannot be told."""
    try:
        found = await survey(client, unit, BASES)
    except DeviceUnreachable:
        raise
    except DeviceError as error:
        return await _by_profile(client, target, unit, profiles, line, now_s, str(error))
    devices = []
    for kind in ROLES:
        try:
            device_map = bind(found.device, found, kind, Ratings())
        except ProfileError:
            continue
        if kind is DeviceKind.PV and _only_a_battery(found):
            continue
        reading = await _read(client, unit, kind, device_map, now_s)
        config = _config(target, unit, kind, line)
        also = found.device.notes
        devices.append(Found(identity=found.identity, config=config, capabilities=device_map.capabilities, reading=reading, also=also))
    ids = " ".join(str(model.id) for model in found.device.models)
    return devices, "" if devices else f"{found.identity}: a SunSpec device with models {ids}, none of which the edge can use"


def _only_a_battery(found: SunSpecSurvey) -> bool:
    """An inverter with storage and no PV input that is measured apart: what it does is the battery's doing."""
    return found.has_storage and not found.dc_ports("pv")


async def _by_profile(
    client: RegisterClient, target: Target, unit: int, profiles: Sequence[str], line: Line, now_s: float, no_sunspec: str
) -> tuple[list[Found], str]:
    devices = []
    for name in profiles:
        profile = load_profile(name)
        device_map = bind_profile(profile, Ratings())
        try:
            reading = await _read(client, unit, profile.kind, device_map, now_s)
        except DeviceUnreachable:
            raise
        except DeviceError:
            continue
        if is_plausible(reading) or name in line.trusted:
            config = msgspec.structs.replace(_config(target, unit, profile.kind, line), family="profile", profile=name)
            devices.append(Found(identity=profile.title, config=config, capabilities=device_map.capabilities, reading=reading))
    if len(devices) > 1:
        names = ", ".join(str(device.config.profile) for device in devices)
        return [], f"its registers could be those of {names}; name the right one alone with --profile"
    if len(devices) == 0:
        raise DeviceError(no_sunspec)
    return devices, ""


def is_plausible(reading: Reading) -> bool:
    """Whether a device of its kind can have said this: a finite power, and mains voltage on at least one phase."""
    if not (math.isfinite(reading.power_w) and abs(reading.power_w) < MOST_W):
        return False
    voltages = () if reading.voltage_v is None else reading.voltage_v
    return any(LEAST_MAINS_V <= voltage_v <= MOST_MAINS_V for voltage_v in voltages)


async def _read(client: RegisterClient, unit: int, kind: DeviceKind, device_map: DeviceMap, now_s: float) -> Reading:
    async def find(_client: RegisterClient, _unit: int) -> DeviceMap:
        return device_map

    return await RegisterDevice(kind.value, kind, client, unit, find).read(now_s)


def _config(target: Target, unit: int, kind: DeviceKind, line: Line) -> DeviceConfig:
    if isinstance(target, TcpTarget):
        return DeviceConfig(name=kind.value, kind=kind, host=target.host, port=target.port, framing=line.framing, unit=unit)
    return msgspec.convert(
        {"name": kind.value, "kind": kind.value, "serial_port": target.port, "baud": line.baud, "parity": line.parity, "unit": unit},
        type=DeviceConfig,
    )
