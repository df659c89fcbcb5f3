"""Which way the meter counts, found by a small safe step of a device that can be told its power.

The device is held at a level, moved by a few hundred watts, and brought back; the meter must follow twice, by about as much, in the same
sense. A load that switches meanwhile spoils a trial, which is repeated. A step never goes where the connection could be overloaded
whichever way the meter counts, nor beyond the device's own limits, and at the end the device is left at rest (battery) or free (PV).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol

import msgspec

from edge.commissioning.values import Found, SignFinding
from edge.devices.driver import Device
from edge.errors import DeviceError
from edge.values import DeviceKind, Setpoint

LEAST_STEP_W: Final = 300.0
MOST_STEP_W: Final = 1000.0
STEP_FRAC: Final = 0.1
CURTAILED_FRAC: Final = 0.3
USABLE_SOC_FRAC: Final = (0.15, 0.85)
LEAST_FOLLOWED_W: Final = 150.0
FOLLOWED_FRAC: Final = (0.6, 1.4)
ROOM_FRAC: Final = 0.9
"""Of the connection's rating that a step may lead to."""

REVERT_S: Final = 60.0
TRIALS: Final = 3
SAMPLES: Final = 4
SETTLE_S: Final = 15.0
PERIOD_S: Final = 1.0


class Levels(msgspec.Struct, frozen=True, kw_only=True):
    """A step: from one setpoint to another and back, and how far the device's power shall move [W]."""

    name: str
    kind: DeviceKind
    before_w: float | None
    stepped_w: float
    step_w: float


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Mean powers while a level was held [W]."""

    meter_w: float
    device_w: float


class Time(Protocol):
    """The clock of a trial."""

    def now_s(self) -> float:
        """Unix time."""

    async def wait(self, duration_s: float) -> None:
        """Let time pass."""


def choose_levels(meter: Found, others: Sequence[Found], rating_w: float) -> Levels | str:
    """The step to take, or in words why none is possible."""
    reasons = []
    usable = [device for device in others if device.kind in (DeviceKind.BATTERY, DeviceKind.PV)]
    for device in sorted(usable, key=lambda found: found.kind is not DeviceKind.BATTERY):
        chosen = _battery_levels(device) if device.kind is DeviceKind.BATTERY else _pv_levels(device)
        if isinstance(chosen, str):
            reasons.append(f"{device.config.name}: {chosen}")
        elif abs(meter.reading.power_w) + chosen.step_w > ROOM_FRAC * rating_w:
            reasons.append(f"{device.config.name}: {abs(meter.reading.power_w):.0f} W flow already, a step could overload the connection")
        else:
            return chosen
    return "; ".join(reasons) or "no battery or PV that can be told its power"


def judge(samples: Sequence[Sample]) -> SignFinding:
    """What three levels (before, stepped, before again) say."""
    signs = []
    for first, second in ((samples[0], samples[1]), (samples[1], samples[2])):
        device_w, meter_w = second.device_w - first.device_w, second.meter_w - first.meter_w
        if abs(device_w) < LEAST_FOLLOWED_W:
            return SignFinding(sign=None, why=f"the device moved by {device_w:.0f} W only")
        followed = meter_w / device_w
        if not FOLLOWED_FRAC[0] <= abs(followed) <= FOLLOWED_FRAC[1]:
            return SignFinding(sign=None, why=f"the device moved by {device_w:.0f} W and the meter by {meter_w:.0f} W")
        signs.append(1 if followed > 0.0 else -1)
    if signs[0] != signs[1]:
        return SignFinding(sign=None, why="the meter followed once in each sense")
    sign: Literal[1, -1] = 1 if signs[0] == 1 else -1
    step_w = abs(samples[1].device_w - samples[0].device_w)
    return SignFinding(sign=sign, why=f"it followed a step of {step_w:.0f} W there and back")


async def find_sign(meter: Device, device: Device, levels: Levels, time: Time) -> SignFinding:
    """Take the step, up to `TRIALS` times. Whatever happens, the device is released at the end."""
    finding = SignFinding(sign=None, why="not tried")
    try:
        await device.read(time.now_s())
        for _ in range(TRIALS):
            samples = []
            for level_w in (levels.before_w, levels.stepped_w, levels.before_w):
                samples.append(await _hold(meter, device, levels, level_w, time))
            finding = judge(samples)
            if finding.sign is not None:
                return finding
    except DeviceError as error:
        finding = SignFinding(sign=None, why=str(error))
    finally:
        await _release(device, levels, time)
    return finding


async def _hold(meter: Device, device: Device, levels: Levels, level_w: float | None, time: Time) -> Sample:
    """Wait until the device has settled at the level, then measure."""
    await device.write(_setpoint(levels, level_w), time.now_s())
    waited_s, last_w = 0.0, float("inf")
    while waited_s < SETTLE_S:
        await time.wait(PERIOD_S)
        waited_s += PERIOD_S
        power_w = (await device.read(time.now_s())).power_w
        if waited_s >= 3.0 * PERIOD_S and abs(power_w - last_w) < 0.1 * levels.step_w:
            break
        last_w = power_w
    meter_w = device_w = 0.0
    for _ in range(SAMPLES):
        await time.wait(PERIOD_S)
        meter_w += (await meter.read(time.now_s())).power_w / SAMPLES
        device_w += (await device.read(time.now_s())).power_w / SAMPLES
    return Sample(meter_w=meter_w, device_w=device_w)


async def _release(device: Device, levels: Levels, time: Time) -> None:
    """A battery at rest, a PV system free; by its own timer where it cannot be reached any more."""
    try:
        await device.write(_setpoint(levels, 0.0 if levels.kind is DeviceKind.BATTERY else None), time.now_s())
    except DeviceError:
        return


def _setpoint(levels: Levels, level_w: float | None) -> Setpoint:
    if levels.kind is DeviceKind.BATTERY:
        return Setpoint(name=levels.name, kind=levels.kind, power_w=level_w, revert_power_w=0.0, revert_after_s=REVERT_S)
    return Setpoint(name=levels.name, kind=levels.kind, limit_w=level_w, revert_limit_w=None, revert_after_s=REVERT_S)


def _battery_levels(device: Found) -> Levels | str:
    reading = device.reading
    if not device.capabilities.sets_power:
        return "cannot be told its power"
    if reading.soc_frac is None or not USABLE_SOC_FRAC[0] <= reading.soc_frac <= USABLE_SOC_FRAC[1]:
        known = "unknown" if reading.soc_frac is None else f"{100.0 * reading.soc_frac:.0f} %"
        return f"its state of charge is {known}; 15 % to 85 % leave room for a step"
    rating_w = min((w for w in (reading.max_charge_w, reading.max_discharge_w, reading.rated_w) if w is not None), default=0.0)
    step_w = min(max(STEP_FRAC * rating_w, LEAST_STEP_W), MOST_STEP_W)
    if rating_w < 2.0 * step_w:
        return f"is rated {rating_w:.0f} W, too little for a step of {step_w:.0f} W"
    before_w = min(max(round(reading.power_w, -1), step_w - rating_w), rating_w - step_w)
    return Levels(
        name=device.config.name,
        kind=device.kind,
        before_w=before_w,
        stepped_w=before_w - step_w if before_w > 0.0 else before_w + step_w,
        step_w=step_w,
    )


def _pv_levels(device: Found) -> Levels | str:
    if not device.capabilities.limits_generation:
        return "cannot be limited in its generation"
    generated_w = abs(min(device.reading.power_w, 0.0))
    step_w = CURTAILED_FRAC * generated_w
    if step_w < LEAST_STEP_W:
        return f"generates {generated_w:.0f} W only; {LEAST_STEP_W / CURTAILED_FRAC:.0f} W are needed for a step"
    return Levels(name=device.config.name, kind=device.kind, before_w=None, stepped_w=generated_w - step_w, step_w=step_w)
