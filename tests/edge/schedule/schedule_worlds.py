"""Random houses and days for the schedule's tests: every kind of asset, none to two of each, from one seed."""

import numpy as np

from edge.schedule.ladder import PriorityLadder
from edge.schedule.model import (
    Appliance,
    ApplianceState,
    Battery,
    BatteryState,
    Departure,
    Generator,
    Household,
    Negotiation,
    Schedule,
    ScheduleInputs,
    Tank,
    TankState,
    Vehicle,
    VehicleState,
)

DAY_S = 86400.0
START_S = 1_760_000_000.0


def random_household(rng: np.random.Generator, *, full: bool = False) -> Household:
    """A house with none to two of each asset; `full` has at least one of each."""

    def count() -> int:
        return int(rng.integers(1 if full else 0, 3))

    return Household(
        pv_rated_w=float(rng.uniform(3000, 10000)) if full or rng.random() < 0.8 else 0.0,
        batteries=tuple(
            Battery(
                name=f"battery {k}",
                capacity_wh=float(rng.uniform(4000, 15000)),
                max_charge_w=float(rng.uniform(2000, 6000)),
                max_discharge_w=float(rng.uniform(2000, 6000)),
                charge_efficiency_frac=float(rng.uniform(0.93, 0.98)),
                discharge_efficiency_frac=float(rng.uniform(0.93, 0.98)),
                min_soc_frac=float(rng.uniform(0.0, 0.2)),
                wear_per_kwh=float(rng.uniform(0.01, 0.04)),
                wear_slope_per_kwh_w=float(rng.choice([0.0, 2e-6])),
            )
            for k in range(count())
        ),
        vehicles=tuple(
            Vehicle(name=f"vehicle {k}", capacity_wh=float(rng.uniform(30000, 80000)), max_charge_w=float(rng.choice([3600, 7200])))
            for k in range(count())
        ),
        tanks=tuple(
            Tank(
                name=f"tank {k}",
                capacity_wh=12000.0,
                max_heat_w=float(rng.choice([1200, 3600])),
                min_energy_wh=1500.0,
                efficiency_frac=float(rng.choice([1.0, 3.0])),
                loss_frac_per_h=float(rng.uniform(0.0, 0.02)),
            )
            for k in range(count())
        ),
        appliances=tuple(Appliance(name=f"appliance {k}", max_w=float(rng.uniform(800, 2500))) for k in range(count())),
        generators=tuple(Generator(name=f"generator {k}", max_w=3000.0, fuel_per_kwh=0.5) for k in range(count())),
    )


def random_inputs(
    rng: np.random.Generator, household: Household, *, steps: int = 96, step_s: float = 900.0, negotiated: bool | None = None
) -> ScheduleInputs:
    """A day that is sometimes easy and sometimes cannot be obeyed; selling never pays more than buying costs."""
    hour = (np.arange(steps) + 0.5) * step_s / 3600.0 % 24.0
    sun = np.clip(np.sin((hour - 6.0) / 12.0 * np.pi), 0.0, None) * rng.uniform(0.3, 1.0, steps)
    tightness = float(rng.choice([0.2, 1.0, 3.0]))
    buy = np.where((hour > 16.0) & (hour < 21.0), 0.45, 0.22) + rng.uniform(0.0, 0.05, steps)
    if negotiated is None:
        negotiated = bool(rng.random() < 0.5)
    terms = Negotiation(
        extra_price_per_kwh=rng.normal(0.0, 0.03, steps),
        target_w=rng.normal(0.0, 2000.0, steps),
        dual_w=rng.normal(0.0, 500.0, steps),
        rho_per_kwh_w=float(rng.choice([1e-5, 5e-5, 2e-4])),
    )
    return ScheduleInputs(
        start_s=START_S,
        step_s=step_s,
        p1_load_w=rng.uniform(200.0, 2500.0, steps),
        p2_load_w=rng.uniform(0.0, 1200.0, steps),
        pv_w=-household.pv_rated_w * sun,
        import_limit_w=tightness * rng.uniform(500.0, 5000.0, steps),
        export_limit_w=tightness * rng.uniform(0.0, 4000.0, steps),
        buy_price_per_kwh=buy,
        sell_price_per_kwh=rng.uniform(-0.05, 0.12, steps),
        batteries=tuple(random_battery_state(rng) for _ in household.batteries),
        vehicles=tuple(random_vehicle_state(rng, steps * step_s) for _ in household.vehicles),
        tanks=tuple(TankState(energy_wh=float(rng.uniform(1500, 12000)), draw_w=rng.uniform(0.0, 800.0, steps)) for _ in household.tanks),
        appliances=tuple(random_appliance_state(rng, steps * step_s) for _ in household.appliances),
        negotiation=terms if negotiated else None,
    )


def random_battery_state(rng: np.random.Generator) -> BatteryState:
    return BatteryState(
        soc_frac=float(rng.uniform(0.2, 1.0)),
        end_value_per_kwh=float(rng.uniform(0.0, 0.2)),
        end_min_soc_frac=float(rng.uniform(0.2, 0.6)) if rng.random() < 0.5 else None,
    )


def random_vehicle_state(rng: np.random.Generator, horizon_s: float) -> VehicleState:
    leaves_s = START_S + float(rng.uniform(-0.2, 0.8)) * horizon_s
    back_s = leaves_s + float(rng.uniform(0.05, 0.4)) * horizon_s
    needed_frac, trip_wh = float(rng.uniform(0.5, 1.0)), float(rng.uniform(0.0, 15000.0))
    trip = Departure(depart_s=leaves_s, return_s=back_s, needed_soc_frac=needed_frac, trip_wh=trip_wh)
    return VehicleState(soc_frac=float(rng.uniform(0.1, 0.9)), connected=bool(leaves_s > START_S), departures=(trip,))


def random_appliance_state(rng: np.random.Generator, horizon_s: float) -> ApplianceState:
    earliest_s = START_S + float(rng.uniform(-0.2, 0.7)) * horizon_s
    return ApplianceState(
        remaining_wh=float(rng.uniform(0.0, 3000.0)),
        earliest_s=earliest_s,
        deadline_s=earliest_s + float(rng.uniform(0.05, 0.5)) * horizon_s,
    )


def objective_of(household: Household, inputs: ScheduleInputs, ladder: PriorityLadder, schedule: Schedule) -> float:
    """The objective of the specification for a schedule, per hour, written out once more from the schedule's own arrays (SI)."""
    net_w = schedule.net_import_w
    inside_w = np.clip(net_w, -inputs.export_limit_w, inputs.import_limit_w)
    cost = inputs.buy_price_per_kwh @ np.maximum(inside_w, 0) - inputs.sell_price_per_kwh @ np.maximum(-inside_w, 0)
    cost += ladder.breach_per_kwh * np.abs(net_w - inside_w).sum() + ladder.p2_per_kwh * schedule.p2_shed_w.sum()
    cost += household.curtailment_per_kwh * schedule.pv_curtailed_w.sum()
    for k, (battery, state) in enumerate(zip(household.batteries, inputs.batteries, strict=True)):
        power_w = schedule.battery_w[k]
        cost += battery.wear_per_kwh * np.abs(power_w).sum() + battery.wear_slope_per_kwh_w / 2 * power_w @ power_w
        cost -= state.end_value_per_kwh * schedule.battery_wh[k, -1] / inputs.step_h
        if state.end_min_soc_frac is not None:
            missing_wh = max(battery.capacity_wh * state.end_min_soc_frac - schedule.battery_wh[k, -1], 0.0)
            cost += ladder.reserve_per_kwh * missing_wh / inputs.step_h
    prices = [ladder.vehicle_per_kwh / v.charge_efficiency_frac for v in household.vehicles]
    prices += [ladder.tank_per_kwh / t.efficiency_frac for t in household.tanks]
    prices += [ladder.appliance_per_kwh for _ in household.appliances]
    for k, price in enumerate(prices):
        cost += price * schedule.flexible_shortfall_wh[k].sum() / inputs.step_h
        cost += household.comfort_slope_per_kwh_w / 2 * schedule.flexible_w[k] @ schedule.flexible_w[k]
    for k, generator in enumerate(household.generators):
        made_w = -schedule.generator_w[k]
        cost += generator.fuel_per_kwh * made_w.sum() + generator.fuel_slope_per_kwh_w / 2 * made_w @ made_w
    if inputs.negotiation is not None:
        terms = inputs.negotiation
        off_w = net_w - terms.target_w + terms.dual_w
        cost += terms.extra_price_per_kwh @ net_w + terms.rho_per_kwh_w / 2 * off_w @ off_w
    return float(cost) / 1000.0


def quiet_inputs(household: Household, *, steps: int = 24, step_s: float = 3600.0, **changes: object) -> ScheduleInputs:
    """A day on which nothing happens: 500 W of priority 1 load, wide limits, flat prices; tests change one thing."""
    values: dict[str, object] = {
        "start_s": START_S,
        "step_s": step_s,
        "p1_load_w": np.full(steps, 500.0),
        "p2_load_w": np.zeros(steps),
        "pv_w": np.zeros(steps),
        "import_limit_w": np.full(steps, 10_000.0),
        "export_limit_w": np.full(steps, 10_000.0),
        "buy_price_per_kwh": np.full(steps, 0.3),
        "sell_price_per_kwh": np.full(steps, 0.05),
        "batteries": tuple(BatteryState(soc_frac=0.5) for _ in household.batteries),
        "vehicles": tuple(VehicleState(soc_frac=0.5) for _ in household.vehicles),
        "tanks": tuple(TankState(energy_wh=t.capacity_wh / 2, draw_w=np.zeros(steps)) for t in household.tanks),
        "appliances": tuple(ApplianceState(remaining_wh=0.0, earliest_s=START_S, deadline_s=START_S) for _ in household.appliances),
    }
    return ScheduleInputs(**(values | changes))  # type: ignore[arg-type]
