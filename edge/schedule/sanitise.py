"""What may go into a plan: each input is taken as it is, moved into its range with a named reason, or refused by name.

States that a meter can get slightly wrong (a state of charge beyond its range) are moved. What no honest source says (not a number, a
negative limit, a load that produces) is refused: planning on it would turn somebody's fault into this house's behaviour.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator

import msgspec
import numpy as np

from edge.schedule.model import (
    ApplianceState,
    Array,
    Battery,
    BatteryState,
    Household,
    ScheduleInputs,
    TankState,
    Vehicle,
    VehicleState,
)

MAX_STEPS = 576
"""48 hours of 5-minute intervals, the longest horizon that a `protocols.messages.Plan` carries."""
MAX_TIME_S = 1e11
MAX_POWER_W = 1e8
MAX_PRICE_PER_KWH = 1000.0
MAX_RHO_PER_KWH_W = 10.0
ROOM_W = 1000.0
"""A limit that cannot bind is placed this far beyond what the hardware can reach."""


class RefusalReason(enum.StrEnum):
    """Why there is no plan at all."""

    ZERO_LENGTH_HORIZON = "zero_length_horizon"
    HORIZON_TOO_LONG = "horizon_too_long"
    BAD_TIME = "bad_time"
    WRONG_SHAPE = "wrong_shape"
    NOT_FINITE = "not_finite"
    NEGATIVE_LIMIT = "negative_limit"
    WRONG_SIGN = "wrong_sign"
    IMPLAUSIBLE = "implausible"
    STATE_MISMATCH = "state_mismatch"
    NO_LEGAL_PLAN = "no_legal_plan"


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """No plan, and why; `detail` says where in the inputs."""

    reason: RefusalReason
    detail: str


class AdjustmentReason(enum.StrEnum):
    """What was moved into its range before planning."""

    SOC_CLAMPED = "soc_clamped"
    END_SOC_CLAMPED = "end_soc_clamped"
    TANK_CLAMPED = "tank_clamped"
    PV_CLAMPED_TO_RATING = "pv_clamped_to_rating"
    DEPARTURE_IGNORED = "departure_ignored"
    DEPARTURE_CLAMPED = "departure_clamped"
    APPLIANCE_CLAMPED = "appliance_clamped"


class Adjustment(msgspec.Struct, frozen=True, kw_only=True):
    """One input that was moved, and from what to what."""

    reason: AdjustmentReason
    detail: str


class Sanitised(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs that every part of this package accepts: limits finite, states in range. `reach_w` bounds |net import|."""

    inputs: ScheduleInputs
    adjustments: tuple[Adjustment, ...]
    reach_w: float


def sanitise(household: Household, inputs: ScheduleInputs) -> Sanitised | Refusal:
    """The inputs in their ranges with every adjustment named, or the first reason to refuse them."""
    refusal = next(_refusals(household, inputs), None)
    if refusal is not None:
        return refusal
    moved: list[Adjustment] = []
    pv_w = inputs.pv_w
    if bool((pv_w < -household.pv_rated_w).any()):
        detail = f"pv_w down to {pv_w.min():.0f} W, rated {household.pv_rated_w:.0f} W"
        moved.append(Adjustment(reason=AdjustmentReason.PV_CLAMPED_TO_RATING, detail=detail))
        pv_w = np.maximum(pv_w, -household.pv_rated_w)
    charge_w = sum(battery.max_charge_w for battery in household.batteries)
    discharge_w = sum(battery.max_discharge_w for battery in household.batteries)
    import_reach_w = inputs.p1_load_w + inputs.p2_load_w + (charge_w + household.flexible_max_w + ROOM_W)
    export_reach_w = -pv_w + (discharge_w + sum(generator.max_w for generator in household.generators) + ROOM_W)
    clean = msgspec.structs.replace(
        inputs,
        pv_w=pv_w,
        import_limit_w=np.minimum(inputs.import_limit_w, import_reach_w),
        export_limit_w=np.minimum(inputs.export_limit_w, export_reach_w),
        batteries=tuple(_battery(b, s, moved) for b, s in zip(household.batteries, inputs.batteries, strict=True)),
        vehicles=tuple(_vehicle(v, s, moved) for v, s in zip(household.vehicles, inputs.vehicles, strict=True)),
        tanks=tuple(_tank(t.name, t.capacity_wh, s, moved) for t, s in zip(household.tanks, inputs.tanks, strict=True)),
        appliances=tuple(_appliance(a.name, s, moved) for a, s in zip(household.appliances, inputs.appliances, strict=True)),
    )
    reach_w = max(float(clean.import_limit_w.max()), float(clean.export_limit_w.max()))
    return Sanitised(inputs=clean, adjustments=tuple(moved), reach_w=reach_w)


def _refusals(household: Household, inputs: ScheduleInputs) -> Iterator[Refusal]:
    """Every reason to refuse, in the order in which it is safe to look for them."""
    yield from _horizon_refusals(inputs)
    yield from _count_refusals(household, inputs)
    arrays = _arrays(inputs)
    for name, values in arrays.items():
        if values.shape != (inputs.steps,) or values.dtype != np.float64:
            found = f"{values.dtype} {values.shape}"
            yield _refuse(RefusalReason.WRONG_SHAPE, f"{name}: expected float64 ({inputs.steps},), got {found}")
            return
    for name, values in arrays.items():
        yield from _array_refusals(name, values)
    yield from _state_refusals(inputs)


def _horizon_refusals(inputs: ScheduleInputs) -> Iterator[Refusal]:
    if inputs.steps == 0:
        yield _refuse(RefusalReason.ZERO_LENGTH_HORIZON, "the horizon has no intervals")
    if inputs.steps > MAX_STEPS:
        yield _refuse(RefusalReason.HORIZON_TOO_LONG, f"at most {MAX_STEPS} intervals, got {inputs.steps}")
    if not (abs(inputs.start_s) <= MAX_TIME_S and 1.0 <= inputs.step_s <= 86400.0):
        yield _refuse(RefusalReason.BAD_TIME, f"start_s {inputs.start_s} (Unix time), step_s {inputs.step_s} (1 s to one day)")


def _count_refusals(household: Household, inputs: ScheduleInputs) -> Iterator[Refusal]:
    for kind in ("batteries", "vehicles", "tanks", "appliances"):
        expected, got = len(getattr(household, kind)), len(getattr(inputs, kind))
        if expected != got:
            yield _refuse(RefusalReason.STATE_MISMATCH, f"{kind}: the household has {expected}, the inputs {got}")


def _arrays(inputs: ScheduleInputs) -> dict[str, Array]:
    arrays = {
        "p1_load_w": inputs.p1_load_w,
        "p2_load_w": inputs.p2_load_w,
        "pv_w": inputs.pv_w,
        "import_limit_w": inputs.import_limit_w,
        "export_limit_w": inputs.export_limit_w,
        "buy_price_per_kwh": inputs.buy_price_per_kwh,
        "sell_price_per_kwh": inputs.sell_price_per_kwh,
    }
    for index, tank in enumerate(inputs.tanks):
        arrays[f"tanks[{index}].draw_w"] = tank.draw_w
    if inputs.negotiation is not None:
        arrays["negotiation.extra_price_per_kwh"] = inputs.negotiation.extra_price_per_kwh
        arrays["negotiation.target_w"] = inputs.negotiation.target_w
        arrays["negotiation.dual_w"] = inputs.negotiation.dual_w
        for direction, _, overrun in inputs.negotiation.overruns:
            for field in overrun.__struct_fields__:
                arrays[f"negotiation.{direction}_overrun.{field}"] = getattr(overrun, field)
    return arrays


def _array_refusals(name: str, values: Array) -> Iterator[Refusal]:
    """Not a number, then sign, then size. A limit may be infinite; loads and draws are never negative; PV never positive."""
    lowest, highest = float(values.min()), float(values.max())
    is_limit = name.endswith("limit_w")
    if math.isnan(lowest) or math.isnan(highest):
        yield _refuse(RefusalReason.NOT_FINITE, f"{name} is not a number at interval {int(np.isnan(values).argmax())}")
    elif is_limit and lowest < 0.0:
        at = int(values.argmin())
        yield _refuse(RefusalReason.NEGATIVE_LIMIT, f"{name} is a magnitude, got {lowest} at interval {at}")
    elif not is_limit and not (math.isfinite(lowest) and math.isfinite(highest)):
        yield _refuse(RefusalReason.NOT_FINITE, f"{name} is infinite at interval {int(np.isinf(values).argmax())}")
    elif name.endswith(("load_w", "draw_w")) and lowest < 0.0:
        yield _refuse(RefusalReason.WRONG_SIGN, f"{name} must be >= 0, got {lowest} at interval {int(values.argmin())}")
    elif name == "pv_w" and highest > 0.0:
        yield _refuse(RefusalReason.WRONG_SIGN, f"pv_w must be <= 0 (into the PV), got {highest} at interval {int(values.argmax())}")
    elif not is_limit:
        bound = MAX_PRICE_PER_KWH if name.endswith("per_kwh") else MAX_POWER_W
        if max(abs(lowest), abs(highest)) > bound:
            yield _refuse(RefusalReason.IMPLAUSIBLE, f"{name} within ±{bound:g}, got {lowest:g} to {highest:g}")


def _state_refusals(inputs: ScheduleInputs) -> Iterator[Refusal]:
    numbers: dict[str, float] = {}
    for index, battery in enumerate(inputs.batteries):
        numbers[f"batteries[{index}].soc_frac"] = battery.soc_frac
        numbers[f"batteries[{index}].end_value_per_kwh"] = battery.end_value_per_kwh
        if battery.end_min_soc_frac is not None:
            numbers[f"batteries[{index}].end_min_soc_frac"] = battery.end_min_soc_frac
        if abs(battery.end_value_per_kwh) > MAX_PRICE_PER_KWH:
            yield _refuse(RefusalReason.IMPLAUSIBLE, f"batteries[{index}].end_value_per_kwh is {battery.end_value_per_kwh:g}")
    for index, vehicle in enumerate(inputs.vehicles):
        numbers[f"vehicles[{index}].soc_frac"] = vehicle.soc_frac
        for number, departure in enumerate(vehicle.departures):
            for field in departure.__struct_fields__:
                numbers[f"vehicles[{index}].departures[{number}].{field}"] = getattr(departure, field)
    for index, tank in enumerate(inputs.tanks):
        numbers[f"tanks[{index}].energy_wh"] = tank.energy_wh
    for index, appliance in enumerate(inputs.appliances):
        for field in appliance.__struct_fields__:
            numbers[f"appliances[{index}].{field}"] = getattr(appliance, field)
    terms = inputs.negotiation
    if terms is not None:
        numbers["negotiation.rho_per_kwh_w"] = terms.rho_per_kwh_w
        if not 0.0 <= terms.rho_per_kwh_w <= MAX_RHO_PER_KWH_W:
            yield _refuse(RefusalReason.IMPLAUSIBLE, f"negotiation.rho_per_kwh_w is {terms.rho_per_kwh_w}")
        for direction, _, overrun in terms.overruns:
            if min(float(overrun.price_per_kwh.min()), float(overrun.rho_per_kwh_w.min())) < 0.0:
                yield _refuse(RefusalReason.WRONG_SIGN, f"negotiation.{direction}_overrun would pay for what lies beyond it")
            if float(overrun.rho_per_kwh_w.max()) > MAX_RHO_PER_KWH_W:
                yield _refuse(RefusalReason.IMPLAUSIBLE, f"negotiation.{direction}_overrun.rho_per_kwh_w exceeds {MAX_RHO_PER_KWH_W:g}")
    for name, value in numbers.items():
        if not math.isfinite(value):
            yield _refuse(RefusalReason.NOT_FINITE, f"{name} is {value}")


def _battery(battery: Battery, state: BatteryState, moved: list[Adjustment]) -> BatteryState:
    soc_frac = min(max(state.soc_frac, battery.min_soc_frac), battery.max_soc_frac)
    if soc_frac != state.soc_frac:
        detail = f"{battery.name}: state of charge {state.soc_frac:.3f} taken as {soc_frac:.3f}"
        moved.append(Adjustment(reason=AdjustmentReason.SOC_CLAMPED, detail=detail))
    end_frac = state.end_min_soc_frac
    if end_frac is not None:
        end_frac = min(max(end_frac, battery.min_soc_frac), battery.max_soc_frac)
        if end_frac != state.end_min_soc_frac:
            detail = f"{battery.name}: wanted at the end {state.end_min_soc_frac:.3f}, can have {end_frac:.3f}"
            moved.append(Adjustment(reason=AdjustmentReason.END_SOC_CLAMPED, detail=detail))
    if soc_frac == state.soc_frac and end_frac == state.end_min_soc_frac:
        return state
    return msgspec.structs.replace(state, soc_frac=soc_frac, end_min_soc_frac=end_frac)


def _vehicle(vehicle: Vehicle, state: VehicleState, moved: list[Adjustment]) -> VehicleState:
    soc_frac = min(max(state.soc_frac, 0.0), vehicle.max_soc_frac)
    if soc_frac != state.soc_frac:
        detail = f"{vehicle.name}: state of charge {state.soc_frac:.3f} taken as {soc_frac:.3f}"
        moved.append(Adjustment(reason=AdjustmentReason.SOC_CLAMPED, detail=detail))
    departures = []
    for departure in state.departures:
        if departure.return_s <= departure.depart_s:
            detail = f"{vehicle.name}: returns at {departure.return_s:.0f}, before it leaves at {departure.depart_s:.0f}"
            moved.append(Adjustment(reason=AdjustmentReason.DEPARTURE_IGNORED, detail=detail))
            continue
        needed_frac = min(max(departure.needed_soc_frac, 0.0), vehicle.max_soc_frac)
        trip_wh = min(max(departure.trip_wh, 0.0), vehicle.capacity_wh)
        if needed_frac != departure.needed_soc_frac or trip_wh != departure.trip_wh:
            detail = f"{vehicle.name}: needs {departure.needed_soc_frac:.3f} for {departure.trip_wh:.0f} Wh"
            moved.append(Adjustment(reason=AdjustmentReason.DEPARTURE_CLAMPED, detail=detail))
            departure = msgspec.structs.replace(departure, needed_soc_frac=needed_frac, trip_wh=trip_wh)
        departures.append(departure)
    return VehicleState(soc_frac=soc_frac, connected=state.connected, departures=tuple(departures))


def _tank(name: str, capacity_wh: float, state: TankState, moved: list[Adjustment]) -> TankState:
    energy_wh = min(max(state.energy_wh, 0.0), capacity_wh)
    if energy_wh == state.energy_wh:
        return state
    detail = f"{name}: {state.energy_wh:.0f} Wh taken as {energy_wh:.0f} Wh"
    moved.append(Adjustment(reason=AdjustmentReason.TANK_CLAMPED, detail=detail))
    return TankState(energy_wh=energy_wh, draw_w=state.draw_w)


def _appliance(name: str, state: ApplianceState, moved: list[Adjustment]) -> ApplianceState:
    remaining_wh = min(max(state.remaining_wh, 0.0), MAX_POWER_W)
    if remaining_wh == state.remaining_wh:
        return state
    detail = f"{name}: {state.remaining_wh:.0f} Wh taken as {remaining_wh:.0f} Wh"
    moved.append(Adjustment(reason=AdjustmentReason.APPLIANCE_CLAMPED, detail=detail))
    return msgspec.structs.replace(state, remaining_wh=remaining_wh)


def _refuse(reason: RefusalReason, detail: str) -> Refusal:
    return Refusal(reason=reason, detail=detail)
