"""The physical world of one run: homes with their devices on the wires of one feeder, moved by plant steps.

In each step every device lives through the step under the voltages of the step before, the feeder is solved for what the homes then
draw, and the meters read the result. Control acts between steps, through registers alone. A home's net import is the sum of its P1 load,
its P2 load (behind a controllable load), its heating element (another), vehicle, battery and PV; powers are positive into the home.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hil.checkers import BALANCE_TOLERANCE_W, Tally
from hil.devices.battery import BatteryInverter
from hil.devices.device import Inputs, SimulatedDevice
from hil.devices.ev_charger import EvCharger
from hil.devices.ev_charger_maps import EV_CHARGERS
from hil.devices.meter import Meter
from hil.devices.pv import PvInverter
from hil.errors import ScenarioError
from hil.feeder import Feeder
from hil.flexible_load import FlexibleLoad
from hil.frames import Frame
from hil.households import EvSession, HouseholdProfiles, NeighbourhoodDay
from hil.plant import Plant, PlantState

Floats = npt.NDArray[np.float64]
EV_CHARGER = "keba-p30"
EV_CURRENT_A = 32.0
EV_FAILSAFE_A = 0.0
P2_RATED_W = 12_000.0

FLICKER_SEED, FLICKER_PU, FLICKER_W = 50, 2e-4, 3.0
"""No mains stands still and no house does: without this the readings of a meter repeat to the last bit, which in the field means that it
is stuck. Standard deviations per step, of the source voltage and of each home's essential load."""


class Home:
    """One household: its profiles, its devices, and what its people still want."""

    def __init__(self, profiles: HouseholdProfiles) -> None:
        site = profiles.site
        phases = len(site.phases)
        self.name = site.name
        self.site = site
        self.profiles = profiles
        self.phase_index = tuple(phase - 1 for phase in site.phases)
        self.meter = Meter("meter", rated_w=max(site.import_rating_w, site.export_rating_w), phases=phases)
        self.pv = None if site.pv is None else PvInverter("pv", rated_w=site.pv.rated_w, phases=phases, der=True)
        self.battery: BatteryInverter | None = None
        if site.battery is not None:
            self.battery = BatteryInverter(
                "battery",
                capacity_wh=site.battery.capacity_wh,
                max_charge_w=site.battery.max_charge_w,
                max_discharge_w=site.battery.max_discharge_w,
                soc_frac=site.battery.initial_soc_frac,
                soc_min_frac=site.battery.minimum_soc_frac,
                charge_efficiency_frac=site.battery.charge_efficiency_frac,
                discharge_efficiency_frac=site.battery.discharge_efficiency_frac,
                phases=phases,
            )
        self.ev: EvCharger | None = None
        if site.ev is not None:
            self.ev = EV_CHARGERS[EV_CHARGER](
                "ev", max_a=EV_CURRENT_A, vehicle_max_a=site.ev.rated_w / (230.0 * phases), failsafe_a=EV_FAILSAFE_A, phases=phases
            )
        self.p2 = FlexibleLoad("p2", rated_w=P2_RATED_W, phases=phases)
        self.tank = FlexibleLoad("tank", rated_w=site.shiftable[0].rated_w, phases=phases) if site.shiftable else None
        self.p1_wh = 0.0
        self.ev_missing_wh = 0.0
        self._session: EvSession | None = None
        self._session_start_wh = 0.0
        self._tank_window = (-math.inf, -math.inf)
        self._tank_start_wh = 0.0
        self.battery_expected_wh = math.nan if self.battery is None else self.battery.energy_wh

    @property
    def devices(self) -> dict[str, SimulatedDevice]:
        """All devices by name, the meter first."""
        found = (self.meter, self.pv, self.battery, self.ev, self.p2, self.tank)
        return {device.name: device for device in found if device is not None}

    def inputs(self, now_s: float, volts: tuple[float, ...], available_w: float, net_import_w: float) -> Inputs:
        """What the world does in a step that begins now to vehicle, heating element, battery and PV; the circuits want something else."""
        plugged, requested_wh = self.plugged(now_s)
        return Inputs(
            voltage_v=volts,
            available_w=available_w,
            net_import_w=net_import_w,
            plugged=plugged,
            requested_wh=requested_wh,
            demand_w=self.tank_demand_w(now_s),
        )

    def live(self, now_s: float, step_s: float, loads_w: tuple[float, float], inputs: Inputs) -> tuple[tuple[float, ...], float]:
        """(P1, P2, heating, vehicle, battery, PV) powers at the end of the step, and the reactive power of the devices."""
        p1_w, p2_wanted_w = loads_w
        self.p1_wh += p1_w * step_s / 3600.0
        self.p2.advance(now_s, step_s, Inputs(voltage_v=inputs.voltage_v, demand_w=p2_wanted_w))
        tank_w = ev_w = battery_w = pv_w = device_var = 0.0
        if self.tank is not None:
            self.tank.advance(now_s, step_s, inputs)
            tank_w = self.tank.power_w
        if self.ev is not None:
            self.ev.advance(now_s, step_s, inputs)
            ev_w, device_var = self.ev.power_w, device_var + self.ev.reactive_var
        if self.pv is not None:
            self.pv.advance(now_s, step_s, inputs)
            pv_w, device_var = self.pv.power_w, device_var + self.pv.reactive_var
        if self.battery is not None:
            self.battery.advance(now_s, step_s, inputs)
            battery_w, device_var = self.battery.power_w, device_var + self.battery.reactive_var
            self._expect_battery(battery_w, step_s)
        return (p1_w, self.p2.power_w, tank_w, ev_w, battery_w, pv_w), device_var

    def _expect_battery(self, battery_w: float, step_s: float) -> None:
        """Carry the bench's own account of the store forward from what flowed at the terminals."""
        assert self.site.battery is not None
        energy_wh = battery_w * step_s / 3600.0
        if battery_w > 0.0:
            self.battery_expected_wh += energy_wh * self.site.battery.charge_efficiency_frac
        else:
            self.battery_expected_wh += energy_wh / self.site.battery.discharge_efficiency_frac

    def plugged(self, now_s: float) -> tuple[bool, float]:
        """Whether the vehicle is there, and what its driver wanted from the wall when it came; closes the session that ends."""
        if self.site.ev is None or self.ev is None:
            return False, 0.0
        session = self.site.ev.connected_at(now_s)
        if session is not self._session:
            self.close_session()
            self._session = session
            self._session_start_wh = self.ev.energy_in_wh
        if session is None:
            return False, 0.0
        return True, session.energy_needed_wh / self.site.ev.charge_efficiency_frac

    def close_session(self) -> None:
        """Book what the departing driver did not get."""
        if self._session is None or self.ev is None or self.site.ev is None:
            return
        stored_wh = (self.ev.energy_in_wh - self._session_start_wh) * self.site.ev.charge_efficiency_frac
        self.ev_missing_wh += max(0.0, self._session.energy_needed_wh - stored_wh - 1.0)
        self._session = None

    def tank_demand_w(self, now_s: float) -> float:
        """The element wants full power from the opening of its window until the water is hot."""
        if self.tank is None:
            return 0.0
        load = self.site.shiftable[0]
        first_s, last_s = self._tank_window
        if not first_s <= now_s < last_s:
            self._tank_window = (-math.inf, -math.inf)
            window = next(((begin_s, end_s) for begin_s, end_s in load.windows if begin_s <= now_s < end_s), None)
            if window is None:
                return 0.0
            self._tank_window = window
            self._tank_start_wh = self.tank.energy_in_wh
        return load.rated_w if self.tank.energy_in_wh - self._tank_start_wh < load.energy_needed_wh else 0.0


class World:
    """All homes of one run on their feeder. `step` moves everything by one plant step and returns what happened."""

    def __init__(self, feeder: Feeder, day: NeighbourhoodDay) -> None:
        by_connection = {profiles.site.connection: profiles for profiles in day.households}
        unknown = sorted(set(by_connection) - {connection.name for connection in feeder.connections})
        if unknown:
            raise ScenarioError(f"{len(unknown)} homes have no connection in network {feeder.name}, e.g. {unknown[0]!r}")
        self.day = day
        self.plant = Plant(feeder)
        self.homes = tuple(Home(by_connection[c.name]) for c in feeder.connections if c.name in by_connection)
        self._row = np.array([row for row, c in enumerate(feeder.connections) if c.name in by_connection])
        self._net_w = np.zeros(len(feeder.connections))
        self._net_var = np.zeros(len(feeder.connections))
        flicker = np.random.default_rng(FLICKER_SEED)
        self._source_pu = day.source_voltage_pu + flicker.normal(0.0, FLICKER_PU, len(day.source_voltage_pu))
        p1_w = np.stack([home.profiles.p1_load_w for home in self.homes]).astype(np.float64)
        self._p1_w = _by_step(np.maximum(0.0, p1_w + flicker.normal(0.0, FLICKER_W, p1_w.shape)))
        self._p2_w = _by_step([home.profiles.p2_load_w for home in self.homes])
        self._load_var = _by_step([home.profiles.load_var for home in self.homes])
        self._available_w = _by_step([home.profiles.pv_available_w for home in self.homes])
        self._last_net_w = [0.0] * len(self.homes)
        self._phase_places = [[3 * number + phase for phase in home.phase_index] for number, home in enumerate(self.homes)]
        self._solve(0)

    @property
    def rated_v(self) -> float:
        """Rated voltage, line to neutral, of the bus of the first home; that of every home on a feeder of one low-voltage level."""
        feeder = self.plant.feeder
        bus = feeder.connections[int(self._row[0])].bus
        return next(entry.rated_v for entry in feeder.buses if entry.name == bus)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the homes, in the order of every array."""
        return tuple(home.name for home in self.homes)

    def step(self, index: int, now_s: float, step_s: float, limits_w: tuple[Floats, Floats], alive: npt.NDArray[np.bool_]) -> Frame:
        """Live through [now_s, now_s + step_s), the step `index` of the profiles. `limits_w` and `alive` are noted in the frame."""
        lived = []
        net_var = []
        wanted = zip(self._p1_w[index].tolist(), self._p2_w[index].tolist(), self._load_var[index].tolist(), strict=True)
        offered = zip(self._available_w[index].tolist(), self._volts, self._last_net_w, strict=True)
        for home, (p1_w, p2_w, load_var), (available_w, volts, last_net_w) in zip(self.homes, wanted, offered, strict=True):
            inputs = home.inputs(now_s, volts, available_w, last_net_w)
            parts_w, device_var = home.live(now_s, step_s, (p1_w, p2_w), inputs)
            total_w = p1_w + p2_w
            if total_w > 0.0:
                device_var += load_var * (parts_w[0] + parts_w[1]) / total_w
            lived.append(parts_w)
            net_var.append(device_var)
        parts = np.ascontiguousarray(np.array(lived).T)
        net_w = parts.sum(axis=0)
        self._last_net_w = net_w.tolist()
        self._net_w[self._row], self._net_var[self._row] = net_w, net_var
        self._solve(index)
        self._read_meters(now_s, step_s)
        return self._frame(now_s + step_s, step_s, parts, index, limits_w, alive)

    def solve_for(self, net_import_w: Floats, net_import_var: Floats) -> PlantState:
        """What the feeder would do if the homes drew this, behind the source voltage of its tables. Moves nothing."""
        feeder = self.plant.feeder
        net_w, net_var = np.zeros(len(feeder.connections)), np.zeros(len(feeder.connections))
        net_w[self._row], net_var[self._row] = net_import_w, net_import_var
        return self.plant.solve(net_w, net_var, feeder.source.voltage_pu)

    def close(self, tally: Tally) -> None:
        """End the run: check every store and every meter against what flowed. A vehicle that is still there may yet be charged."""
        for home in self.homes:
            tally.passed()
            if home.battery is not None and abs(home.battery.energy_wh - home.battery_expected_wh) > 1.0:
                tally.add_violation(
                    f"{home.name}: battery holds {home.battery.energy_wh:.1f} Wh, flows leave {home.battery_expected_wh:.1f} Wh"
                )
            tally.passed()
            counted_wh = home.meter.energy_in_wh - home.meter.energy_out_wh
            flowed_wh = sum(device.energy_in_wh - device.energy_out_wh for device in home.devices.values() if device is not home.meter)
            flowed_wh += home.p1_wh
            if abs(counted_wh - flowed_wh) > 1.0 + BALANCE_TOLERANCE_W:
                tally.add_violation(f"{home.name}: meter counted {counted_wh:.1f} Wh, its parts {flowed_wh:.1f} Wh")

    def _solve(self, index: int) -> None:
        """The wires under what the homes draw, and the voltages that each home's devices see from now on."""
        self.state = self.plant.solve(self._net_w, self._net_var, float(self._source_pu[index]))
        self._voltage_v = self.state.voltage_v[self._row]
        flat = self._voltage_v.ravel().tolist()
        self._volts = [tuple([flat[place] for place in places]) for places in self._phase_places]

    def _read_meters(self, now_s: float, step_s: float) -> None:
        """Meters see the voltages that the step caused; a home of several phases loads them alike."""
        for home, volts, net_w in zip(self.homes, self._volts, self._last_net_w, strict=True):
            shares_w = (net_w / len(volts),) * len(volts)
            home.meter.advance(now_s, step_s, Inputs(voltage_v=volts, phase_power_w=shares_w))

    def _frame(
        self,
        end_s: float,
        step_s: float,
        parts: Floats,
        index: int,
        limits_w: tuple[Floats, Floats],
        alive: npt.NDArray[np.bool_],
    ) -> Frame:
        state = self.state
        return Frame(
            time_s=end_s,
            step_s=step_s,
            net_import_w=np.array([home.meter.power_w for home in self.homes]),
            p1_w=parts[0],
            p1_wanted_w=self._p1_w[index],
            p2_w=parts[1],
            p2_wanted_w=self._p2_w[index],
            shiftable_w=parts[2],
            ev_w=parts[3],
            battery_w=parts[4],
            pv_w=parts[5],
            pv_available_w=self._available_w[index],
            soc_frac=np.array([math.nan if home.battery is None else home.battery.soc_frac for home in self.homes]),
            import_limit_w=limits_w[0],
            export_limit_w=limits_w[1],
            voltage_min_v=np.fmin.reduce(self._voltage_v, axis=1),
            voltage_max_v=np.fmax.reduce(self._voltage_v, axis=1),
            transformer_frac=float(state.transformer_loading.max()),
            line_frac=float(state.line_loading.max()),
            source_w=state.source_w,
            losses_w=state.losses_w,
            edge_alive=alive,
        )


def _by_step(series: Sequence[npt.NDArray[np.floating[Any]]] | Floats) -> Floats:
    """[step, home] from one series of steps for each home."""
    return np.ascontiguousarray(np.stack([np.asarray(one, dtype=np.float64) for one in series], axis=1))
