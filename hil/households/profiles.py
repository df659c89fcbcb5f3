"""One household and one neighbourhood over the time of a run: what is installed, and what people and the sky do with it.

Units and signs are those of `protocols.units`: watts, watt hours, Unix seconds (UTC). Loads are >= 0. `pv_available_w` is a
magnitude (what the panels could give at that moment if nothing limited them): a PV system that is not curtailed has `power_w ==
-pv_available_w`. A value at index `k` is the mean over the half-open interval [start_s + k step_s, start_s + (k + 1) step_s).

Battery, vehicle and shiftable load are assets with a state: their power is chosen by the controllers and is not in the load
series.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from hil.households.tariffs import SpotTariff, Tariff

Floats = npt.NDArray[np.float64]
Series = npt.NDArray[np.float32]


class PvAsset(msgspec.Struct, frozen=True, kw_only=True):
    """`rated_w` is the inverter's rating; it is also the scale of `pv_available_w`, which never exceeds it."""

    rated_w: float


class BatteryAsset(msgspec.Struct, frozen=True, kw_only=True):
    """A home battery behind its own or a hybrid inverter. Efficiencies are one way, between AC terminals and cells."""

    capacity_wh: float
    max_charge_w: float
    max_discharge_w: float
    charge_efficiency_frac: float = 0.95
    discharge_efficiency_frac: float = 0.95
    initial_soc_frac: float = 0.5
    minimum_soc_frac: float = 0.05


class EvSession(msgspec.Struct, frozen=True, kw_only=True):
    """The vehicle is plugged in over [arrival_s, departure_s) and its driver wants `energy_needed_wh` into the battery by then.

    `arrival_s` may lie before the start of the run (a car that stood there already) and `departure_s` after its end.
    """

    arrival_s: float
    departure_s: float
    energy_needed_wh: float


class EvAsset(msgspec.Struct, frozen=True, kw_only=True):
    """A charging point and the one car that uses it."""

    rated_w: float
    charge_efficiency_frac: float
    sessions: tuple[EvSession, ...]

    def connected_at(self, time_s: float) -> EvSession | None:
        """The session that holds at `time_s`, if the car is there."""
        return next((session for session in self.sessions if session.arrival_s <= time_s < session.departure_s), None)


class ShiftableLoad(msgspec.Struct, frozen=True, kw_only=True):
    """A P3 load that needs `energy_needed_wh` inside each of its windows, at any power up to `rated_w` (a hot-water tank).

    `windows` are (earliest_s, latest_s) and do not overlap; one energy is needed in each.
    """

    name: str
    rated_w: float
    energy_needed_wh: float
    windows: tuple[tuple[float, float], ...]


class HouseholdSite(msgspec.Struct, frozen=True, kw_only=True):
    """What stands at one connection point. `connection` is the name of the customer in the network's `loads.csv`.

    `phases` are of {1, 2, 3}, as in that table. `import_rating_w`/`export_rating_w` are what service line and main switch carry.
    """

    name: str
    connection: str
    phases: tuple[int, ...]
    import_rating_w: float
    export_rating_w: float
    pv: PvAsset | None = None
    battery: BatteryAsset | None = None
    ev: EvAsset | None = None
    shiftable: tuple[ShiftableLoad, ...] = ()


class HouseholdProfiles(msgspec.Struct, frozen=True, kw_only=True):
    """The uncontrollable side of one household. Every series has shape (steps,), float32.

    P1 is essential and never touched; P2 may be reduced by the household itself (design section 3). `load_var` belongs to P1 + P2
    as drawn here; when P2 is reduced, reactive power goes down in proportion of active power.
    """

    site: HouseholdSite
    start_s: float
    step_s: float
    p1_load_w: Series
    p2_load_w: Series
    load_var: Series
    pv_available_w: Series

    @property
    def steps(self) -> int:
        return len(self.p1_load_w)

    @property
    def times_s(self) -> Floats:
        """Starts of the intervals, shape (steps,)."""
        return self.start_s + self.step_s * np.arange(self.steps, dtype=np.float64)

    @property
    def load_w(self) -> Series:
        return self.p1_load_w + self.p2_load_w


class HistorySeries(msgspec.Struct, frozen=True, kw_only=True):
    """What a household's meter recorded before the run: means over `step_s`, oldest first, ending where the run starts.

    `load_w` is P1 + P2 (what the edge's load forecaster learns), `pv_w` a magnitude (shape (steps,); zeros where there is no PV).
    """

    start_s: float
    step_s: float
    load_w: Series
    pv_w: Series


class NeighbourhoodDay(msgspec.Struct, frozen=True, kw_only=True):
    """Everything outside the controllers for one run on one feeder.

    `source_voltage_pu` is the voltage behind the source impedance, shape (steps,), same grid as the profiles. `utc_offset_s` says
    what people's clocks show; tariffs and habits follow it. `run_steps` of the series are the run itself; the rest is a margin of
    at least one planning horizon, so that nothing ends abruptly at the end of the run.
    """

    name: str
    start_s: float
    step_s: float
    run_steps: int
    utc_offset_s: float
    latitude_deg: float
    longitude_deg: float
    tariff: Tariff | SpotTariff
    source_voltage_pu: Series
    households: tuple[HouseholdProfiles, ...]
    history: tuple[HistorySeries, ...] = ()
    notes: tuple[str, ...] = ()
    """What of all this is real and what is synthetic; for the report."""
