"""`commonwatt-edge init`: from addresses to a configuration that has been checked, and what is to be done next. A shell."""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from edge.commissioning.document import Site, document
from edge.commissioning.meter_sign import choose_levels, find_sign
from edge.commissioning.scan import Line, scan
from edge.commissioning.targets import read_targets, read_units
from edge.commissioning.values import Found, SignFinding, Survey
from edge.config import decode_config
from edge.devices.profile import shipped_profiles
from edge.devices.registry import ModbusSessions, open_device
from edge.enrolment.command import configuration_sections
from edge.enrolment.identity import Identity
from edge.errors import ConfigurationError
from edge.values import DeviceKind
from protocols.clock import SystemClock
from protocols.errors import ProtocolError
from protocols.files import write_private

STATE_FOLDER: Final = Path("/var/lib/commonwatt-edge")
SERVICE_FOLDER: Final = Path("/etc/commonwatt-edge")
SIGNS: Final = {1: "counts import as positive", -1: "counts import as negative", None: "WHICH WAY IT COUNTS IS UNKNOWN"}
NOBODY: Final = '[identity]\ncommunity = "not-enrolled-yet"\nnode = "not-enrolled-yet"\n'


class WallTime:
    """Real time."""

    def now_s(self) -> float:
        """Unix time."""
        return SystemClock().now_s()

    async def wait(self, duration_s: float) -> None:
        """Let time pass."""
        await asyncio.sleep(duration_s)


def init(args: argparse.Namespace) -> int:
    """Carry out the command: 0 written, 1 nothing that could be written was found, 2 wrong arguments."""
    targets, units = read_targets(args.address), read_units(args.units)
    if args.config.exists() and not args.replace:
        raise ConfigurationError(f"{args.config}: is there already; --replace writes it anew and keeps the old one beside it")
    own = tuple(str(Path(name).resolve()) if Path(name).is_file() else name for name in args.profile)
    profiles = own if args.only_profile else (*shipped_profiles(), *own)
    framing: Literal["tcp", "rtu"] = "rtu" if args.rtu_over_tcp else "tcp"
    line = Line(baud=args.baud, parity=args.parity, timeout_s=args.timeout_s, framing=framing, trusted=own)
    _say(f"looking at {len(targets)} place(s), units {args.units}; nothing is written yet ...")
    survey = asyncio.run(scan(targets, units, profiles, line, now_s=SystemClock().now_s()))
    report(survey)
    meters = [device for device in survey.found if device.kind is DeviceKind.METER]
    if len(meters) == 0:
        _say("no meter was found. The edge needs one at the connection point: name its address, or give its --profile")
        return 1
    meter = _chosen_meter(meters, args.meter)
    others = [device for device in survey.found if device.kind is not DeviceKind.METER]
    sign = SignFinding(sign=None, why="not checked (--no-step)") if args.no_step else _find_sign(meter, others, args.import_rating_w)
    _say(f"meter: {SIGNS[sign.sign]}: {sign.why}")
    text = document(
        _site(args),
        [msgspec.structs.replace(meter, config=msgspec.structs.replace(meter.config, name="meter")), *others],
        sign,
        state_path=_state_path(args.config),
        made_on=f"{datetime.now():%Y-%m-%d}",
        more_meters=[device for device in meters if device is not meter],
    )
    enrolled = _write(args.config, text, args.identity)
    _next(args, enrolled=enrolled, sign=sign)
    return 0


def report(survey: Survey) -> None:
    """What was found, what each device cannot do, and where nothing was."""
    for device in survey.found:
        sys.stdout.write(f"{device.config.name:<10} {device.where:<28} {device.identity}\n")
        for note in (*cannot(device), *device.capabilities.notes, *device.also):
            sys.stdout.write(f"{'':<10}   - {note}\n")
    for entry in (*survey.unused, *(survey.silent if len(survey.silent) <= 12 else ())):
        sys.stdout.write(f"{'-':<10} {entry.where:<28} {entry.why}\n")
    if len(survey.silent) > 12:
        sys.stdout.write(f"{'-':<10} {len(survey.silent)} other places are silent or speak no Modbus that is known here\n")
    sys.stdout.flush()


def cannot(device: Found) -> list[str]:
    """What the device will not do for the household, in words."""
    can, kind = device.capabilities, device.kind
    missing = []
    if kind is DeviceKind.PV and not can.limits_generation:
        missing.append("cannot be curtailed: an export limit holds only as far as the others can take its power")
    if kind is DeviceKind.BATTERY and not can.sets_power:
        missing.append("cannot be told its power: it is measured and left alone")
    if kind in (DeviceKind.EV_CHARGER, DeviceKind.LOAD) and not can.limits_draw:
        missing.append("cannot be limited in its draw")
    if kind is not DeviceKind.METER and not can.reverts:
        missing.append("no safe reversion: when the edge dies it does not fall back to a chosen limit by itself")
    return missing


def _chosen_meter(meters: list[Found], wanted: str | None) -> Found:
    if wanted is None:
        return meters[0]
    for meter in meters:
        if wanted in (meter.config.name, meter.where, meter.config.endpoint()):
            return meter
    raise ConfigurationError(f"--meter {wanted}: expected one of {', '.join(f'{meter.config.name} ({meter.where})' for meter in meters)}")


def _find_sign(meter: Found, others: list[Found], rating_w: float) -> SignFinding:
    levels = choose_levels(meter, others, rating_w)
    if isinstance(levels, str):
        return SignFinding(sign=None, why=levels)
    device = next(found for found in others if found.config.name == levels.name)
    _say(f"moving {levels.name} by {levels.step_w:.0f} W there and back, to see which way the meter counts ...")

    async def trial() -> SignFinding:
        sessions = ModbusSessions()
        opened = [open_device(msgspec.structs.replace(found.config, slow_s=1.0), sessions) for found in (meter, device)]
        try:
            return await find_sign(opened[0], opened[1], levels, WallTime())
        finally:
            for one in opened:
                await one.close()

    return asyncio.run(trial())


def _site(args: argparse.Namespace) -> Site:
    return Site(
        import_rating_w=args.import_rating_w,
        export_rating_w=args.export_rating_w,
        contract_export_w=min(args.contract_export_w, args.export_rating_w),
        timezone=args.timezone if args.timezone is not None else _timezone_here(),
        latitude_deg=args.latitude_deg,
        longitude_deg=args.longitude_deg,
    )


def _timezone_here() -> str:
    """The zone of the machine, by the link that Debian keeps."""
    target = str(Path("/etc/localtime").resolve())
    return target.partition("/zoneinfo/")[2] or "UTC"


def _state_path(config: Path) -> str:
    return str(STATE_FOLDER / "state.json") if config.resolve().parent == SERVICE_FOLDER else "state.json"


def _write(path: Path, text: str, folder: Path) -> bool:
    """Check the configuration as it will be used, then write it; returns whether it has an identity already."""
    identity = Identity(folder)
    try:
        enrolled = identity.is_enrolled
        sections = configuration_sections(identity, path.resolve().parent) if enrolled else NOBODY
        decode_config((text + sections).encode("utf-8"), str(path))
        if path.exists():
            path.replace(path.with_name(path.name + ".old"))
        write_private(path, (f"{text}\n{sections}" if enrolled else text).encode("utf-8"))
    except (ProtocolError, OSError) as error:
        raise ConfigurationError(str(error)) from error
    return enrolled


def _next(args: argparse.Namespace, *, enrolled: bool, sign: SignFinding) -> None:
    steps = []
    if sign.sign is None:
        steps.append(f"check meter_sign in {args.config}: import must be positive")
    if not enrolled:
        steps.append(f"join the community: commonwatt-edge enrol BUNDLE --folder {args.identity} --config {args.config}")
    if args.config.resolve().parent == SERVICE_FOLDER:
        steps += ["start it: systemctl enable --now commonwatt-edge", "see that all is well: commonwatt-edge doctor"]
    else:
        steps.append(f"start it: commonwatt-edge run --config {args.config}")
        steps.append(f"see that all is well: commonwatt-edge doctor --config {args.config}")
    sys.stdout.write(f"{args.config}: written and checked. Next:\n")
    for number, step in enumerate(steps, 1):
        sys.stdout.write(f"  {number}. {step}\n")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
