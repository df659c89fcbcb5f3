"""A house of simulated devices with a meter that adds them up."""

from typing import Literal

import msgspec

from hil.devices.battery import BatteryInverter
from hil.devices.device import Inputs, SimulatedDevice
from hil.devices.eastron import EastronSdm630
from hil.devices.environment import DAY_S, load_w, sun_frac, vehicle_plugged
from hil.devices.ev_charger_maps import EV_CHARGERS
from hil.devices.meter import Meter
from hil.devices.pv import PvInverter
from hil.devices.quirks import Quirks

METERS = ("sunspec", "eastron-sdm630")

Generation = Literal["classic", "der"]
NOMINAL_V = 230.0
SOURCE_OHM = 0.25
"""Resistance between the house and a stiff grid: gives the voltage of a house served alone something to do."""


class HouseSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Ratings of the devices of one house; a rating of 0 leaves the device out.

    `generation` chooses the SunSpec models: "classic" is 101-103 with 120-124, "der" the IEEE 1547 set 701-715.
    """

    pv_w: float = 6_000.0
    battery_wh: float = 10_000.0
    battery_w: float = 5_000.0
    ev_max_a: float = 32.0
    ev_charger: str = "alfen-ng9xx"
    ev_daily_wh: float = 12_000.0
    meter: Literal["sunspec", "eastron-sdm630"] = "sunspec"
    phases: int = 1
    generation: Generation = "classic"
    quirks: Quirks = Quirks()


class House:
    """The devices of one house, in the order in which they are listed, and what flows between them.

    `numbered` gives them the units 1, 2, 3 ... for a shared port; otherwise each is unit 1 of its own.
    """

    def __init__(self, name: str, spec: HouseSpec, *, numbered: bool = False) -> None:
        self.name = name
        self.spec = spec
        self.voltage_v: tuple[float, ...] = (NOMINAL_V,) * spec.phases
        self.net_import_w = 0.0
        self._numbered = numbered
        self.devices: list[SimulatedDevice] = []
        """Meter first, then what it measures."""
        quirks, phases = spec.quirks, spec.phases
        if spec.meter == "eastron-sdm630":
            self.devices.append(EastronSdm630(f"{name}-meter", unit=1, phases=phases, quirks=quirks))
        else:
            self.devices.append(Meter(f"{name}-meter", unit=1, phases=phases, quirks=quirks))
        der = spec.generation == "der"
        if spec.pv_w > 0.0:
            pv = PvInverter(f"{name}-pv", rated_w=spec.pv_w, unit=self._unit(), phases=phases, der=der, quirks=quirks)
            self.devices.append(pv)
        if spec.battery_wh > 0.0:
            battery = BatteryInverter(
                f"{name}-battery",
                capacity_wh=spec.battery_wh,
                max_charge_w=spec.battery_w,
                max_discharge_w=spec.battery_w,
                unit=self._unit(),
                phases=phases,
                self_consumption=True,
                legacy=not der,
                quirks=quirks,
            )
            self.devices.append(battery)
        if spec.ev_max_a > 0.0:
            charger = EV_CHARGERS[spec.ev_charger]
            self.devices.append(charger(f"{name}-ev", max_a=spec.ev_max_a, unit=self._unit(), phases=phases))

    def advance(self, now_s: float, dt_s: float) -> None:
        """Live through one step of the built-in day."""
        time_of_day_s = now_s % DAY_S
        spec = self.spec
        inputs = Inputs(
            voltage_v=self.voltage_v,
            available_w=spec.pv_w * sun_frac(time_of_day_s),
            net_import_w=self.net_import_w,
            plugged=vehicle_plugged(time_of_day_s),
            requested_wh=spec.ev_daily_wh,
        )
        total_w = load_w(time_of_day_s)
        for device in self.devices[1:]:
            device.advance(now_s, dt_s, inputs)
            total_w += device.power_w
        self.net_import_w = total_w
        drop_v = SOURCE_OHM * total_w / spec.phases / NOMINAL_V
        self.voltage_v = (NOMINAL_V - drop_v,) * spec.phases
        self.devices[0].advance(
            now_s, dt_s, Inputs(voltage_v=self.voltage_v, phase_power_w=(total_w / spec.phases,) * spec.phases)
        )

    def _unit(self) -> int:
        return len(self.devices) + 1 if self._numbered else 1
