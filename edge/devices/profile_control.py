"""How a register-map profile writes a setpoint: a power or a current in one register (or two), and the vendor's watchdog.

A limit in watts becomes a current per phase with the higher of the measured and the nominal voltage, so that rounding and a high
voltage both err towards less power. Below the smallest current a charger can offer (IEC 61851-1: 6 A) it is paused.
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import msgspec

from edge.devices.blocks import Item
from edge.devices.decode import NUMBER_TYPES, encode_number
from edge.devices.mapping import Numbers, Segment, Wanted
from edge.devices.ratings import Ratings
from edge.errors import DeviceGarbage
from edge.values import DeviceKind, Setpoint

Address = Annotated[int, msgspec.Meta(ge=0, le=65535)]
NumberName = Literal["u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64"]
NOMINAL_VOLTAGE_V = 230.0
_TINY = 1e-6


class Control(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One setpoint register.

    `quantity` is what it holds: a current per phase, or a power with the signs of the edge after `factor` (register x factor = SI).
    What is asked below `minimum` becomes `paused` (SI), above `maximum` becomes `maximum`; `step` is the resolution in SI. Where a device
    pauses by another register, `pause_address` takes `pause_value` or `run_value` and the setpoint stays at `minimum`. `wears` marks
    a register in flash or EEPROM; `readback` is false where the vendor lets it only be written. `phases_point` tells the number of
    phases in use, else `phases` holds.
    """

    quantity: Literal["current_a", "power_w"]
    address: Address
    type: NumberName
    function: Literal[6, 16] = 16
    words: Literal["high_first", "low_first"] = "high_first"
    factor: Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)] = 1.0
    step: Annotated[float, msgspec.Meta(gt=0, le=1e5)]
    minimum: Annotated[float, msgspec.Meta(ge=0, le=1e7)] = 0.0
    maximum: Annotated[float, msgspec.Meta(gt=0, le=1e7)]
    paused: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    pause_address: Address | None = None
    pause_value: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    run_value: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 1
    readback: bool = True
    phases: Literal[1, 2, 3] = 3
    phases_point: str | None = None
    wears: bool = False

    def items(self, watchdog: "Watchdog | None") -> list[Item]:
        """The registers whose content is read back."""
        found = [(self.address, self.address + NUMBER_TYPES[self.type].size)]
        if self.pause_address is not None:
            found.append((self.pause_address, self.pause_address + 1))
        if watchdog is not None and watchdog.fallback_address is not None:
            found.append((watchdog.fallback_address, watchdog.fallback_address + NUMBER_TYPES[self.type].size))
        if watchdog is not None and watchdog.timeout_address is not None:
            found.append((watchdog.timeout_address, watchdog.timeout_address + 1))
        return found

    def watts_per_unit(self, numbers: Numbers, voltage_points: Sequence[str], ratings: Ratings) -> float:
        """Watts that one unit of the setpoint may amount to."""
        if self.quantity == "power_w":
            return 1.0
        measured = [v for v in (numbers.get(point) for point in voltage_points) if v is not None]
        phases: float | None = ratings.phases
        if phases is None and self.phases_point is not None:
            phases = numbers.get(self.phases_point)
        return max([NOMINAL_VOLTAGE_V, *measured]) * (phases if phases is not None and 1 <= phases <= 3 else self.phases)

    def quantised(self, wanted: float) -> float:
        """A setpoint as the register can hold it, rounded towards zero; never between pause and `minimum`."""
        magnitude = min(abs(wanted), self.maximum)
        magnitude = math.floor(magnitude / self.step + _TINY) * self.step
        if magnitude < self.minimum:
            return self.paused
        return math.copysign(magnitude, wanted)

    def segments(self, value: float) -> list[Segment]:
        """The writes of one setpoint in SI."""
        single = self.function == 6
        held = max(value, self.minimum) if self.pause_address is not None else value
        found = [Segment(address=self.address, registers=self._registers(held), single=single, nonvolatile=self.wears)]
        if self.pause_address is not None:
            running = self.run_value if value != self.paused else self.pause_value
            found.append(Segment(address=self.pause_address, registers=(running,), single=single, nonvolatile=self.wears))
        return found

    def _registers(self, value: float) -> tuple[int, ...]:
        try:
            return encode_number(value / self.factor, self.type, words_low_first=self.words == "low_first")
        except OverflowError as error:
            raise DeviceGarbage(f"register {self.address}: {error}") from error

    def fallback_segment(self, address: int, value: float, *, wears: bool) -> Segment:
        """The write of the value that the device falls back to."""
        return Segment(address=address, registers=self._registers(value), single=self.function == 6, nonvolatile=wears, repeats=False)


class Watchdog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The vendor's own timer.

    The setpoint is repeated every `refresh_s`. What the device falls back to is either told by `fallback_point` (in the unit of the
    setpoint; set up with the vendor's tool) or written to `fallback_address`, with the timeout in seconds at `timeout_address`.
    """

    refresh_s: Annotated[float, msgspec.Meta(gt=0, le=3600)]
    fallback_point: str | None = None
    fallback_address: Address | None = None
    timeout_address: Address | None = None
    timeout_min_s: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 1
    timeout_max_s: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 65535
    wears: bool = False


def limit_control(
    control: Control, watchdog: Watchdog | None, voltage_points: Sequence[str], ratings: Ratings
) -> Callable[[Setpoint, Numbers], Wanted]:
    """The function from a setpoint to registers for one profile."""

    def wanted(setpoint: Setpoint, numbers: Numbers) -> Wanted:
        watts = control.watts_per_unit(numbers, voltage_points, ratings)
        asked_w = setpoint.power_w if setpoint.kind is DeviceKind.BATTERY else setpoint.limit_w
        fallback_w = setpoint.revert_power_w if setpoint.kind is DeviceKind.BATTERY else setpoint.revert_limit_w
        if asked_w is None:
            value = 0.0 if setpoint.kind is DeviceKind.BATTERY else control.quantised(control.maximum)
        else:
            value = control.quantised(asked_w / watts)
        segments: list[Segment] = []
        refresh_s: float | None = None
        reverts, detail = setpoint.revert_after_s is None, "the device has no watchdog: it keeps its last setpoint"
        if watchdog is not None:
            refresh_s = watchdog.refresh_s
            reverts, detail = _fallback(control, watchdog, setpoint, fallback_w, watts, numbers, segments)
        segments.extend(control.segments(value))
        return Wanted(
            segments=tuple(segments),
            effective_w=None if asked_w is None else value * watts,
            refresh_after_s=refresh_s,
            reverts=reverts,
            detail="" if reverts else detail,
        )

    return wanted


def _fallback(
    control: Control,
    watchdog: Watchdog,
    setpoint: Setpoint,
    fallback_w: float | None,
    watts: float,
    numbers: Numbers,
    segments: list[Segment],
) -> tuple[bool, str]:
    """Write the fall-back where the device lets us, and say whether it will fall back far enough."""
    timer_s = setpoint.revert_after_s
    if timer_s is None or fallback_w is None:
        return True, ""
    if watchdog.fallback_address is not None:
        value = control.quantised(fallback_w / watts)
        segments.append(control.fallback_segment(watchdog.fallback_address, value, wears=watchdog.wears))
        if watchdog.timeout_address is not None:
            timeout_s = min(max(math.floor(timer_s), watchdog.timeout_min_s), watchdog.timeout_max_s)
            timeout = Segment(
                address=watchdog.timeout_address,
                registers=(timeout_s,),
                single=control.function == 6,
                nonvolatile=watchdog.wears,
                repeats=False,
            )
            segments.append(timeout)
        return True, ""
    told = None if watchdog.fallback_point is None else numbers.get(watchdog.fallback_point)
    if told is None:
        return False, "the value that the device falls back to is not known"
    if told * watts <= abs(fallback_w) + 1.0:
        return True, ""
    return False, f"the device falls back to {told * watts:.0f} W, asked was {abs(fallback_w):.0f} W: lower it with the vendor's tool"
