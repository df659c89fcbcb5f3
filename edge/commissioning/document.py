"""The configuration that `commonwatt-edge init` writes: TOML with what an installer has to know beside each value. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from edge.commissioning.values import Found, SignFinding
from edge.devices.registry import DeviceConfig
from edge.values import DeviceKind, Reading

WIDTH: Final = 100
ADDRESS: Final = ("host", "port", "framing", "serial_port", "baud", "parity", "stop_bits", "unit")


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """What no scan can find out about the connection point."""

    import_rating_w: float
    export_rating_w: float
    contract_export_w: float
    timezone: str
    latitude_deg: float | None = None
    longitude_deg: float | None = None


def document(
    site: Site, found: Sequence[Found], sign: SignFinding, *, state_path: str, made_on: str, more_meters: Sequence[Found] = ()
) -> str:
    """The sections `site`, `store`, `devices` and `vehicles`. `more_meters` are written as comments: only one can be at the connection."""
    lines = [
        f"# Commonwatt edge, written by `commonwatt-edge init` on {made_on}. After a change: commonwatt-edge check-config --config FILE",
        "# Powers in W, times in s. What stands here without a comment of its own is the default or was measured.",
        "",
        *_site(site),
        "",
        "[store]",
        "# Default control, pending schedule and plan live here; they survive a power cut.",
        f"path = {json.dumps(state_path)}",
    ]
    for device in found:
        lines += ["", *_device(device, sign)]
    for device in more_meters:
        lines += ["", *_comment(f"Another meter, {device.identity}, at {device.where}: only one can be at the connection point.")]
        lines += [f"# {line}" for line in _section(device.config)]
    for device in found:
        if device.kind is DeviceKind.EV_CHARGER:
            lines += ["", *_vehicle(device)]
    return "\n".join(lines) + "\n"


def _site(site: Site) -> Iterator[str]:
    yield "[site]"
    yield "# What the connection itself can carry, from the operator's contract or the main fuse."
    yield f"import_rating_w = {site.import_rating_w!r}"
    yield f"export_rating_w = {site.export_rating_w!r}"
    yield "# Holds while the community has said nothing yet: no control and no default."
    yield f"contract_export_w = {site.contract_export_w!r}"
    yield "# contract_import_w = 5000.0"
    yield f"timezone = {json.dumps(site.timezone)}"
    if site.latitude_deg is None or site.longitude_deg is None:
        yield "# Forecasts of PV need the place, in degrees; east and north are positive."
        yield "# latitude_deg = 52.5"
        yield "# longitude_deg = 13.4"
    else:
        yield f"latitude_deg = {site.latitude_deg!r}"
        yield f"longitude_deg = {site.longitude_deg!r}"
    yield "# Prices per kWh by local time, each from an hour on; the plan goes by them."
    yield "# buy = [{ from_h = 0.0, price_per_kwh = 0.22 }, { from_h = 6.0, price_per_kwh = 0.34 }]"
    yield "# sell = [{ from_h = 0.0, price_per_kwh = 0.08 }]"


def _device(device: Found, sign: SignFinding) -> Iterator[str]:
    yield from _comment(f"{device.identity or 'Says no name'}, at {device.where}. {_said(device.reading)}")
    for note in (*device.capabilities.notes, *device.also):
        yield from _comment(f"Note: {note}.")
    config = device.config
    if device.kind is DeviceKind.METER:
        if sign.sign is None:
            yield from _comment(f"CHECK meter_sign: {sign.why}. Import must be positive: see `commonwatt-edge status` with a kettle on.")
        else:
            yield from _comment(f"meter_sign was checked: {sign.why}.")
        config = msgspec.structs.replace(config, meter_sign=1 if sign.sign is None else sign.sign)
    yield from _section(config)
    if device.kind is DeviceKind.METER:
        yield f"meter_sign = {config.meter_sign}"


def _section(config: DeviceConfig) -> Iterator[str]:
    yield "[[devices]]"
    yield f"name = {json.dumps(config.name)}"
    yield f"kind = {json.dumps(config.kind.value)}"
    if config.family == "profile":
        yield 'family = "profile"'
        yield f"profile = {json.dumps(config.profile)}"
    built = msgspec.to_builtins(config)
    standard = msgspec.to_builtins(DeviceConfig(name="x", kind=config.kind))
    for name in ADDRESS:
        shown = name in ("host", "port", "unit") if config.host is not None else name == "unit"
        if built[name] is not None and (shown or built[name] != standard[name]):
            yield f"{name} = {_value(built[name])}"


def _vehicle(device: Found) -> Iterator[str]:
    yield "# A charger does not tell how full a vehicle is: each stay needs session_wh, ready by this hour of local time."
    yield "[[vehicles]]"
    yield f"device = {json.dumps(device.config.name)}"
    yield "session_wh = 10000.0"
    yield "ready_by_h = 7.0"
    yield "max_w = 7360.0"
    yield "min_w = 1380.0"


def _said(reading: Reading) -> str:
    parts = [f"{reading.power_w:.0f} W into it"]
    for name, value, unit in (
        ("rated", reading.rated_w, "W"),
        ("capacity", reading.capacity_wh, "Wh"),
        ("charges with up to", reading.max_charge_w, "W"),
        ("discharges with up to", reading.max_discharge_w, "W"),
    ):
        if value is not None:
            parts.append(f"{name} {value:.0f} {unit}")
    if reading.soc_frac is not None:
        parts.append(f"{100.0 * reading.soc_frac:.0f} % charged")
    return f"When it was found: {', '.join(parts)}."


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _comment(text: str) -> Iterator[str]:
    """Comment lines of a comfortable width. What a device says of itself is untrusted: control characters end no line."""
    line = "#"
    for word in "".join(character if character.isprintable() else " " for character in text).split():
        if len(line) + 1 + len(word) > WIDTH and line != "#":
            yield line
            line = "#"
        line += f" {word}"
    yield line
