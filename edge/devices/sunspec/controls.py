"""Setpoints as SunSpec registers: generation limits by model 704 or 123, battery power by model 704 or 124.

What happens when the controller falls silent decides between them. Model 704 has a reversion timer *and* the value to revert to
(WMaxLimPctRvrt, WSetRvrt). Model 123 has the timer only, and running out means "no limit"; so here its timer is left off whenever the
fall-back that was asked for is a limit: the device then keeps the last limit, which is never looser than what was commanded. Model
124 falls back to the inverter's own control.

A control is written as runs of consecutive implemented points, the run with the enable point last, and a limit is rounded down to the
resolution of the device.
"""

import math
from collections.abc import Callable, Sequence
from itertools import chain

import msgspec

from edge.devices.blocks import Item
from edge.devices.decode import NUMBER_TYPES, SCALES, Field, number_encoder
from edge.devices.mapping import Numbers, Segment, Wanted
from edge.devices.sunspec.fields import Survey
from edge.devices.sunspec.layout import layouts
from edge.values import Setpoint

REFRESH_FRAC = 0.5
"""A reversion timer is restarted when this part of it has passed."""

_TINY = 1e-6

Stretch = tuple[int, tuple[tuple[str, Callable[[float], tuple[int, ...]]], ...]]
"""Address, and the points that follow each other there with how each becomes registers."""


class ControlChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The way a device is commanded: the registers, the numbers that scale a setpoint, and what to tell people."""

    control: Callable[[Setpoint, Numbers], Wanted] | None = None
    limit_in_force: Callable[[Numbers], float | None] = lambda numbers: None
    fields: tuple[Field, ...] = ()
    items: tuple[Item, ...] = ()
    switched_off: tuple[tuple[int, int], ...] = ()
    reverts: bool = False
    notes: tuple[str, ...] = ()

    def warnings(self, numbers: Numbers) -> tuple[str, ...]:
        """What keeps the device from following setpoints just now."""
        return ("the device is in local control and ignores setpoints",) if numbers.get("local_control") == 1 else ()


NO_CONTROL = ControlChoice()


class Run:
    """The writable points of one control that the device implements, in address order."""

    def __init__(self, survey: Survey, model_id: int, names: Sequence[str], enable: str) -> None:
        self.model_id = model_id
        self._enable = enable
        self.names = [name for name in names if survey.raw(model_id, name) is not None]
        self._address = {name: survey.address(model_id, name) for name in self.names}
        self._type = {name: layouts()[model_id].point(name).type for name in self.names}
        self._stretches: dict[tuple[str, ...], tuple[Stretch, ...]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._address

    def switched_off(self) -> tuple[tuple[int, int], ...]:
        """The register and value that say that the control is disabled."""
        return ((self._address[self._enable], 0),)

    def items(self) -> tuple[Item, ...]:
        """The address ranges of the points, for read-back."""
        sizes = {name: layouts()[self.model_id].point(name).size for name in self.names}
        return tuple((self._address[name], self._address[name] + sizes[name]) for name in self.names)

    def segments(self, raw: dict[str, float]) -> tuple[Segment, ...]:
        """Consecutive points together, the run with the enable point last."""
        given = tuple([name for name in self.names if name in raw])
        stretches = self._stretches.get(given)
        if stretches is None:
            stretches = self._stretches[given] = self._consecutive(given)
        return tuple(
            [
                Segment(address=address, registers=tuple(chain.from_iterable([encode(raw[name]) for name, encode in points])))
                for address, points in stretches
            ]
        )

    def _consecutive(self, given: tuple[str, ...]) -> tuple[Stretch, ...]:
        """The points that one request can write each time, with how each becomes registers; the enable point in the last."""
        runs: list[tuple[int, list[str]]] = []
        end = -1
        for name in given:
            address = self._address[name]
            if address == end:
                runs[-1][1].append(name)
            else:
                runs.append((address, [name]))
            end = address + NUMBER_TYPES[self._type[name]].size
        runs.sort(key=lambda run: self._enable in run[1])
        return tuple((address, tuple((name, number_encoder(self._type[name])) for name in names)) for address, names in runs)


def generation_limit_704(survey: Survey, rated_w: float | None) -> ControlChoice | None:
    """WMaxLimPct of model 704: a limit in percent of WMax that can revert to a chosen one."""
    names = ("WMaxLimPctEna", "WMaxLimPct", "WMaxLimPctRvrt", "WMaxLimPctEnaRvrt", "WMaxLimPctRvrtTms")
    run = Run(survey, 704, names, "WMaxLimPctEna")
    if "WMaxLimPctEna" not in run or "WMaxLimPct" not in run:
        return None
    can_revert = all(name in run for name in names)
    model = survey.device.find(704)

    def control(setpoint: Setpoint, numbers: Numbers) -> Wanted:
        maximum_w = _maximum_w(rated_w, numbers)
        power = _scale_power(numbers, "limit_scale")
        if maximum_w is None or power is None:
            return Wanted(segments=(), effective_w=None, detail="the rating or the scale factor of the limit is not known")
        limit_w, timer_s = setpoint.limit_w, setpoint.revert_after_s
        raw_limit = _floor_percent(limit_w, maximum_w, power)
        guarded = timer_s is not None and setpoint.revert_limit_w is not None
        raw = {"WMaxLimPctEna": 1.0 if limit_w is not None or (guarded and can_revert) else 0.0, "WMaxLimPct": raw_limit}
        if can_revert:
            raw["WMaxLimPctRvrt"] = _floor_percent(setpoint.revert_limit_w, maximum_w, power)
            raw["WMaxLimPctEnaRvrt"] = 1.0 if guarded else 0.0
            raw["WMaxLimPctRvrtTms"] = 0.0 if timer_s is None else max(1.0, round(timer_s))
        return Wanted(
            segments=run.segments(raw),
            effective_w=None if limit_w is None else raw_limit * _percent(power) * maximum_w,
            refresh_after_s=None if timer_s is None or not can_revert else timer_s * REFRESH_FRAC,
            expires_after_s=timer_s if can_revert else None,
            reverts=can_revert or timer_s is None,
            detail="" if can_revert or timer_s is None else "model 704 of this device has no reversion points: it keeps its last limit",
        )

    def in_force(numbers: Numbers) -> float | None:
        return _limit_in_force(numbers, rated_w)

    notes = () if can_revert else ("model 704 without reversion points: on loss of the controller it keeps its last limit",)
    return ControlChoice(
        control=control,
        limit_in_force=in_force,
        fields=(
            *survey.fields(model, limit_enabled="WMaxLimPctEna", limit_frac=("WMaxLimPct", 0.01), limit_scale="WMaxLimPct_SF"),
            *_local_control(survey),
        ),
        items=run.items(),
        switched_off=run.switched_off(),
        reverts=can_revert,
        notes=notes,
    )


def generation_limit_123(survey: Survey, rated_w: float | None) -> ControlChoice | None:
    """WMaxLimPct of model 123: a limit in percent of WMax whose timer, when it runs, ends in no limit."""
    names = ("WMaxLimPct", "WMaxLimPct_WinTms", "WMaxLimPct_RvrtTms", "WMaxLimPct_RmpTms", "WMaxLim_Ena")
    run = Run(survey, 123, names, "WMaxLim_Ena")
    if "WMaxLimPct" not in run or "WMaxLim_Ena" not in run:
        return None
    has_timer = "WMaxLimPct_RvrtTms" in run
    model = survey.device.find(123)

    def control(setpoint: Setpoint, numbers: Numbers) -> Wanted:
        maximum_w = _maximum_w(rated_w, numbers)
        power = _scale_power(numbers, "limit_scale")
        if maximum_w is None or power is None:
            return Wanted(segments=(), effective_w=None, detail="the rating or the scale factor of the limit is not known")
        limit_w, timer_s, fallback_w = setpoint.limit_w, setpoint.revert_after_s, setpoint.revert_limit_w
        releases = timer_s is not None and fallback_w is None and has_timer
        raw_limit = _floor_percent(limit_w, maximum_w, power)
        raw = {
            "WMaxLimPct": raw_limit,
            "WMaxLimPct_WinTms": 0.0,
            "WMaxLimPct_RvrtTms": min(0xFFFE, max(1.0, round(timer_s))) if releases and timer_s is not None else 0.0,
            "WMaxLimPct_RmpTms": 0.0,
            "WMaxLim_Ena": 0.0 if limit_w is None else 1.0,
        }
        kept = fallback_w is None or (limit_w is not None and limit_w <= fallback_w)
        return Wanted(
            segments=run.segments(raw),
            effective_w=None if limit_w is None else raw_limit * _percent(power) * maximum_w,
            refresh_after_s=timer_s * REFRESH_FRAC if releases and timer_s is not None and limit_w is not None else None,
            expires_after_s=timer_s if releases else None,
            reverts=timer_s is None or kept,
            detail="" if timer_s is None or kept else "model 123 cannot fall back to a tighter limit: it keeps the last one",
        )

    def in_force(numbers: Numbers) -> float | None:
        return _limit_in_force(numbers, rated_w)

    return ControlChoice(
        control=control,
        limit_in_force=in_force,
        fields=(
            *survey.fields(model, limit_enabled="WMaxLim_Ena", limit_frac=("WMaxLimPct", 0.01), limit_scale="WMaxLimPct_SF"),
            *_local_control(survey),
        ),
        items=run.items(),
        switched_off=run.switched_off(),
        notes=(
            "model 123 only: its reversion timer would return it to uncurtailed, so the timer stays off where a limit must hold, "
            "and on loss of the controller the device keeps its last limit; it cannot fall back to a tighter one",
        ),
    )


def power_704(survey: Survey, rated_w: float | None) -> ControlChoice | None:
    """WSet of model 704: AC power in watts (or percent of WMax), positive out of the device, with a value to revert to.

    On a hybrid inverter WSet commands battery and PV together, so what its PV ports give just now is added to what the battery shall do.
    """
    watts, percent = survey.raw(704, "WSet") is not None, survey.raw(704, "WSetPct") is not None
    names = ["WSetEna", "WSetMod", "WSet", "WSetRvrt", "WSetPct", "WSetPctRvrt", "WSetEnaRvrt", "WSetRvrtTms"]
    unused = ("WSetPct", "WSetPctRvrt") if watts else ("WSet", "WSetRvrt")
    run = Run(survey, 704, names, "WSetEna")
    if "WSetEna" not in run or not (watts or percent):
        return None
    value, revert, scale = ("WSet", "WSetRvrt", "WSet_SF") if watts else ("WSetPct", "WSetPctRvrt", "WSetPct_SF")
    can_revert = all(name in run for name in (revert, "WSetEnaRvrt", "WSetRvrtTms"))
    model = survey.device.find(704)
    kept = {name: _signed(survey.raw(704, name)) for name in unused if name in run}
    pv_ports = [port.name for port in survey.dc_ports("pv")]

    def control(setpoint: Setpoint, numbers: Numbers) -> Wanted:
        maximum_w = _maximum_w(rated_w, numbers)
        scale_power = _scale_power(numbers, "power_scale")
        if scale_power is None or (not watts and maximum_w is None):
            return Wanted(segments=(), effective_w=None, detail="the rating or the scale factor of the setpoint is not known")
        multiplier, divisor = SCALES[scale_power]
        step_w = multiplier / divisor if watts else multiplier / divisor * _or_zero(maximum_w) / 100.0
        pv_w = sum(_or_zero(numbers.get(port)) for port in pv_ports)
        into = 0.0 if setpoint.power_w is None else _towards_zero(setpoint.power_w - pv_w, step_w)
        timer_s = setpoint.revert_after_s
        raw = {"WSetEna": 0.0 if setpoint.power_w is None else 1.0, "WSetMod": 1.0 if watts else 0.0, value: -into, **kept}
        if can_revert:
            chosen = timer_s is not None and setpoint.revert_power_w is not None
            raw[revert] = -_towards_zero(_or_zero(setpoint.revert_power_w), step_w)
            raw["WSetEnaRvrt"] = 1.0 if chosen else 0.0
            raw["WSetRvrtTms"] = 0.0 if timer_s is None else max(1.0, round(timer_s))
        return Wanted(
            segments=run.segments(raw),
            effective_w=None if setpoint.power_w is None else into * step_w + pv_w,
            refresh_after_s=None if timer_s is None or not can_revert else timer_s * REFRESH_FRAC,
            expires_after_s=timer_s if can_revert else None,
            reverts=can_revert or timer_s is None,
            detail="" if can_revert or timer_s is None else "model 704 of this device has no reversion points: it keeps its last power",
        )

    notes = () if can_revert else ("model 704 without reversion points: on loss of the controller it keeps its last power",)
    return ControlChoice(
        control=control,
        fields=(*survey.fields(model, power_scale=scale), *_local_control(survey)),
        items=run.items(),
        switched_off=run.switched_off(),
        reverts=can_revert,
        notes=notes,
    )


def power_124(survey: Survey, max_charge_w: float | None, max_discharge_w: float | None) -> ControlChoice | None:
    """InWRte and OutWRte of model 124: a window in percent of the largest rates, closed to one power by a negative end."""
    names = ("StorCtl_Mod", "OutWRte", "InWRte", "InOutWRte_WinTms", "InOutWRte_RvrtTms", "InOutWRte_RmpTms", "ChaGriSet")
    run = Run(survey, 124, names, "StorCtl_Mod")
    if not all(name in run for name in ("StorCtl_Mod", "OutWRte", "InWRte")):
        return None
    model = survey.device.find(124)
    has_timer = "InOutWRte_RvrtTms" in run

    def control(setpoint: Setpoint, numbers: Numbers) -> Wanted:
        charge_w = _known(max_charge_w, numbers.get("rate_base"), numbers.get("max_charge"))
        discharge_w = _known(max_discharge_w, numbers.get("max_discharge"), charge_w)
        scale_power = _scale_power(numbers, "rate_scale")
        if charge_w is None or discharge_w is None or scale_power is None:
            return Wanted(segments=(), effective_w=None, detail="the charging rate or its scale factor is not known")
        power_w, timer_s = setpoint.power_w, setpoint.revert_after_s
        in_rate, out_rate, effective_w = _window(_or_zero(power_w), charge_w, discharge_w, _percent(scale_power))
        raw = {
            "StorCtl_Mod": 0.0 if power_w is None else 3.0,
            "OutWRte": out_rate,
            "InWRte": in_rate,
            "InOutWRte_WinTms": 0.0,
            "InOutWRte_RvrtTms": 0.0 if timer_s is None else min(0xFFFE, max(1.0, round(timer_s))),
            "InOutWRte_RmpTms": 0.0,
        }
        if effective_w > 0:
            raw["ChaGriSet"] = 1.0
        kept = timer_s is None or (has_timer and setpoint.revert_power_w is None)
        return Wanted(
            segments=run.segments(raw),
            effective_w=None if power_w is None else effective_w,
            refresh_after_s=None if timer_s is None or not has_timer else timer_s * REFRESH_FRAC,
            expires_after_s=timer_s if has_timer else None,
            reverts=kept,
            detail="" if kept else "model 124 cannot fall back to a chosen power: it returns to the inverter's own control",
        )

    return ControlChoice(
        control=control,
        fields=(*survey.fields(model, rate_scale="InOutWRte_SF", rate_base="WChaMax"), *_local_control(survey)),
        items=run.items(),
        switched_off=run.switched_off(),
        notes=("model 124 only: on loss of the controller the battery returns to the inverter's own control, not to a chosen power",),
    )


def _window(power_w: float, charge_w: float, discharge_w: float, step_frac: float) -> tuple[float, float, float]:
    """Raw InWRte, raw OutWRte and the power they amount to; the window is never empty, whichever way the two ends were rounded."""
    if power_w >= 0:
        in_rate = math.floor(min(power_w, charge_w) / charge_w / step_frac + _TINY)
        forced_w = in_rate * step_frac * charge_w
        out_rate = -math.floor(min(forced_w, discharge_w) / discharge_w / step_frac + _TINY)
        return in_rate, float(out_rate), forced_w
    out_rate = math.floor(min(-power_w, discharge_w) / discharge_w / step_frac + _TINY)
    forced_w = out_rate * step_frac * discharge_w
    in_rate = -math.floor(min(forced_w, charge_w) / charge_w / step_frac + _TINY)
    return float(in_rate), out_rate, -forced_w


def _limit_in_force(numbers: Numbers, rated_w: float | None) -> float | None:
    maximum_w, fraction = _maximum_w(rated_w, numbers), numbers.get("limit_frac")
    if numbers.get("limit_enabled") != 1 or fraction is None or maximum_w is None:
        return None
    return fraction * maximum_w


def _maximum_w(rated_w: float | None, numbers: Numbers) -> float | None:
    """WMax, the base of percentages: as the device says it, else as configured."""
    found = _known(numbers.get("rated"), numbers.get("nameplate"), rated_w)
    return found if found is not None and found > 0 else None


def _floor_percent(limit_w: float | None, maximum_w: float, scale_power: int) -> float:
    full = 1.0 / _percent(scale_power)
    if limit_w is None:
        return float(round(full))
    return float(min(math.floor(max(limit_w, 0.0) / maximum_w * full + _TINY), round(full)))


def _percent(scale_power: int) -> float:
    """The fraction that one count of a percent register stands for."""
    multiplier, divisor = SCALES[scale_power]
    return multiplier / divisor / 100.0


def _or_zero(quantity: float | None) -> float:
    return 0.0 if quantity is None else quantity


def _towards_zero(power_w: float, step_w: float) -> float:
    return math.copysign(math.floor(abs(power_w) / step_w + _TINY), power_w)


def _scale_power(numbers: Numbers, name: str) -> int | None:
    power = numbers.get(name)
    return int(power) if power is not None and int(power) in SCALES else None


def _known(*candidates: float | None) -> float | None:
    for candidate in candidates:
        if candidate is not None:
            return candidate
    return None


def _signed(registers: tuple[int, ...] | None) -> float:
    if registers is None:
        return 0.0
    number = int.from_bytes(b"".join(r.to_bytes(2, "big") for r in registers), "big", signed=True)
    return float(number)


def _local_control(survey: Survey) -> list[Field]:
    return survey.fields(survey.device.find(715, 802), local_control="LocRemCtl")
