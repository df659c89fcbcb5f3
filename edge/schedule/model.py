"""The values of the household schedule: what a house has, what is known about the hours ahead, and what shall be done in them.

Everything here is SI and keeps the signs of `protocols.units`: power is positive *into* the thing named, so `pv_w` and `generator_w`
are zero or negative while they produce, a charging battery is positive, limits are magnitudes. Prices are per kWh, the one exception.
Arrays have one entry for each interval of the horizon; energies are those at the *end* of an interval.

Priorities (Li et al. 2026, section 3.2): priority 1 is load that nothing here can touch; priority 2 is the curtailable part of
the load, used only to stay inside the envelope; priority 3 are the flexible loads (vehicles, tanks, appliances).
"""

from __future__ import annotations

from functools import cached_property

import msgspec
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Battery(msgspec.Struct, frozen=True, kw_only=True):
    """A stationary battery.

    `wear_per_kwh` is paid on every kWh charged and on every kWh discharged; `wear_slope_per_kwh_w` lets that price grow with power.
    A wear above zero is also what keeps charging and discharging exclusive in the relaxed problem (see `solve`).
    """

    name: str
    capacity_wh: float
    max_charge_w: float
    max_discharge_w: float
    charge_efficiency_frac: float = 0.95
    discharge_efficiency_frac: float = 0.95
    min_soc_frac: float = 0.1
    max_soc_frac: float = 1.0
    wear_per_kwh: float = 0.02
    wear_slope_per_kwh_w: float = 0.0


class Vehicle(msgspec.Struct, frozen=True, kw_only=True):
    """An electric vehicle at its charger; it is charged, never discharged. Charging below the minimum current is rounded down later."""

    name: str
    capacity_wh: float
    max_charge_w: float
    charge_efficiency_frac: float = 0.9
    max_soc_frac: float = 1.0


class Tank(msgspec.Struct, frozen=True, kw_only=True):
    """Heat behind an electric heater or heat pump; energies are above the cold-water reference. `efficiency_frac` may exceed one."""

    name: str
    capacity_wh: float
    max_heat_w: float
    min_energy_wh: float = 0.0
    efficiency_frac: float = 1.0
    loss_frac_per_h: float = 0.0


class Appliance(msgspec.Struct, frozen=True, kw_only=True):
    """A shiftable load that needs a given energy between two times, at any power up to `max_w`."""

    name: str
    max_w: float


class Generator(msgspec.Struct, frozen=True, kw_only=True):
    """A dispatchable generator. Its minimum stable output is relaxed to zero; a lower setpoint is rounded down by whoever drives it."""

    name: str
    max_w: float
    fuel_per_kwh: float
    fuel_slope_per_kwh_w: float = 0.0


class Household(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What is behind one connection point: any number of each kind.

    `comfort_slope_per_kwh_w` is the small price that grows with the power of a flexible load and so makes its plan unique and flat;
    `curtailment_per_kwh` the small price of throwing PV away.
    """

    pv_rated_w: float = 0.0
    batteries: tuple[Battery, ...] = ()
    vehicles: tuple[Vehicle, ...] = ()
    tanks: tuple[Tank, ...] = ()
    appliances: tuple[Appliance, ...] = ()
    generators: tuple[Generator, ...] = ()
    comfort_slope_per_kwh_w: float = 1e-6
    curtailment_per_kwh: float = 0.001

    @cached_property
    def flexible_names(self) -> tuple[str, ...]:
        """Priority 3, in the order of every `flexible_*` array."""
        names = [vehicle.name for vehicle in self.vehicles] + [tank.name for tank in self.tanks]
        return tuple(names + [appliance.name for appliance in self.appliances])

    @cached_property
    def flexible_max_w(self) -> float:
        """The largest draw of all flexible loads together."""
        return (
            sum(vehicle.max_charge_w for vehicle in self.vehicles)
            + sum(tank.max_heat_w for tank in self.tanks)
            + sum(appliance.max_w for appliance in self.appliances)
        )


class BatteryState(msgspec.Struct, frozen=True, kw_only=True):
    """Now, and what is wanted at the end: a price for what is left, and optionally a state of charge that shall be left."""

    soc_frac: float
    end_value_per_kwh: float = 0.0
    end_min_soc_frac: float | None = None


class Departure(msgspec.Struct, frozen=True, kw_only=True):
    """The vehicle leaves at `depart_s` with at least `needed_soc_frac`, uses `trip_wh`, and is back at `return_s`."""

    depart_s: float
    return_s: float
    needed_soc_frac: float
    trip_wh: float = 0.0


class VehicleState(msgspec.Struct, frozen=True, kw_only=True):
    """`connected` is about now: an unplugged vehicle is away until the return of the trip under way, or for good if none is known."""

    soc_frac: float
    connected: bool = True
    departures: tuple[Departure, ...] = ()


class TankState(msgspec.Struct, frozen=True, kw_only=True):
    """Energy now, and the hot water drawn in each interval as mean thermal power."""

    energy_wh: float
    draw_w: Array


class ApplianceState(msgspec.Struct, frozen=True, kw_only=True):
    """`remaining_wh` is still to be delivered inside [earliest_s, deadline_s); zero when there is nothing to do."""

    remaining_wh: float
    earliest_s: float
    deadline_s: float


class Overrun(msgspec.Struct, frozen=True, kw_only=True):
    """What net import costs beyond a threshold, in one direction: price · over + rho/2 · over² with over the part beyond `free_w`.

    `free_w` is counted in that direction (net import, or what is exported) and may be negative.
    """

    free_w: Array
    price_per_kwh: Array
    rho_per_kwh_w: Array


class Negotiation(msgspec.Struct, frozen=True, kw_only=True):
    """What a community mechanism adds to the bill, with x the net import of the household.

    extra_price · x + rho/2 · (x - target + dual)² on each interval: a price signal and the proximal term of sharing ADMM in scaled
    form. `rho_per_kwh_w` is the price per kWh that one watt of deviation costs. The overruns are there where envelopes are negotiated too.
    """

    extra_price_per_kwh: Array
    target_w: Array
    dual_w: Array
    rho_per_kwh_w: float
    import_overrun: Overrun | None = None
    export_overrun: Overrun | None = None

    @property
    def overruns(self) -> tuple[tuple[str, float, Overrun], ...]:
        """The overruns that there are: their names, and what net import is multiplied with to count in their direction."""
        both = ("import", 1.0, self.import_overrun), ("export", -1.0, self.export_overrun)
        return tuple((name, sign, overrun) for name, sign, overrun in both if overrun is not None)


class ScheduleInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What is known when a plan is made. State tuples follow the order of the household's assets.

    The envelope is a box around net import; it may be tighter than the house can obey, and `inf` means that there is no limit.
    """

    start_s: float
    step_s: float
    p1_load_w: Array
    p2_load_w: Array
    pv_w: Array
    import_limit_w: Array
    export_limit_w: Array
    buy_price_per_kwh: Array
    sell_price_per_kwh: Array
    batteries: tuple[BatteryState, ...] = ()
    vehicles: tuple[VehicleState, ...] = ()
    tanks: tuple[TankState, ...] = ()
    appliances: tuple[ApplianceState, ...] = ()
    negotiation: Negotiation | None = None

    @property
    def steps(self) -> int:
        """The number of intervals."""
        return len(self.p1_load_w)

    @property
    def step_h(self) -> float:
        """The interval in hours, the factor between W and Wh."""
        return self.step_s / 3600.0


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be done. Two-dimensional arrays have one row for each asset, in the order of the household.

    `flexible_shortfall_wh` is energy that a flexible load does not get although it was wanted (the store is counted as if it had it).
    Breaches are what net import exceeds the envelope by; a legal schedule has them only where the hardware cannot do better.
    """

    start_s: float
    step_s: float
    net_import_w: Array
    p2_shed_w: Array
    pv_curtailed_w: Array
    battery_w: Array
    battery_wh: Array
    flexible_w: Array
    flexible_wh: Array
    flexible_shortfall_wh: Array
    generator_w: Array
    import_breach_w: Array
    export_breach_w: Array

    @property
    def steps(self) -> int:
        """The number of intervals."""
        return len(self.net_import_w)
