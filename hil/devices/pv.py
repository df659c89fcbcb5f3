"""A simulated PV inverter.

The inverter follows the sun and stays below its limit: target = min(available, WMax x limit); it approaches the target with a
first-order lag, but never produces more than the sun offers. An optional volt-watt curve and an overvoltage trip act on the highest
phase voltage. Served as SunSpec models 1, 103 (101, 113, 111), 120, 121, 122, 123, 160, or as a DER with 1, 701-704, 714, 715.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence

from hil.devices.control import Lag
from hil.devices.device import Inputs
from hil.devices.limits import GenerationLimit
from hil.devices.quirks import Quirks
from hil.devices.sunspec import SunSpecBlock, Value
from hil.devices.sunspec_device import CONVERSION_EFFICIENCY, DC_VOLTAGE_V, Inverter
from hil.devices.sunspec_models import (
    controls_block,
    der_capacity_block,
    der_control_block,
    der_heartbeat_block,
    enter_service_block,
    nameplate_block,
    settings_block,
    status_block,
)

INVERTER_LAG_S = 1.0
SLEEP_BELOW_W = 1.0
RECONNECT_AFTER_S = 60.0

VoltWatt = Sequence[tuple[float, float]]


class PvInverter(Inverter):
    """See the module; `volt_watt` is a falling curve of (voltage_v, share of the rating), `trip_voltage_v` trips at once."""

    kind = "pv"

    def __init__(
        self,
        name: str,
        *,
        rated_w: float,
        unit: int = 1,
        phases: int = 1,
        der: bool = False,
        lag_s: float = INVERTER_LAG_S,
        ramp_w_per_s: float | None = None,
        volt_watt: VoltWatt = (),
        trip_voltage_v: float | None = None,
        reconnect_after_s: float = RECONNECT_AFTER_S,
        quirks: Quirks | None = None,
    ) -> None:
        options = Quirks() if quirks is None else quirks
        self.available_w = 0.0
        self.limit = GenerationLimit(step_frac=options.setpoint_step_frac, rearm_on_any_write=options.rearm_on_any_write)
        self._der = der
        self._lag = Lag(lag_s, rate_per_s=ramp_w_per_s)
        self._volt_watt = tuple(volt_watt)
        self._trip_voltage_v = trip_voltage_v
        self._reconnect_after_s = reconnect_after_s
        self._reconnect_at_s = 0.0
        self._throttled = False
        super().__init__(name, unit=unit, phases=phases, quirks=options, rated_w=rated_w)

    @property
    def limit_w(self) -> float:
        """The largest generation allowed now, by command and setting."""
        share = self.limit.effective_frac(self.now_s) if self.obeys else 1.0
        return self.max_w * share

    def operating_state(self) -> int:
        """OFF, SLEEPING, MPPT, THROTTLED or FAULT."""
        if self.tripped:
            return 7
        if not self.connected:
            return 1
        if self._throttled:
            return 5
        return 4 if self.generation_w >= SLEEP_BELOW_W else 2

    def throttled_frac(self) -> float | None:
        """The share of what the sun offers that is held back."""
        if not self._throttled or self.available_w <= 0.0:
            return None
        return 1.0 - self.generation_w / self.available_w

    def forget_setpoints(self) -> None:
        """Uncurtailed."""
        self.limit.reset()
        self.connect_requested = True

    def foreign_setpoint(self, share: float) -> None:
        """Somebody else sets WMaxLimPct."""
        self.limit.impose(share)

    def _step(self, end_s: float, dt_s: float, inputs: Inputs) -> None:
        self.limit.tick(end_s)
        self._watch_voltage(end_s)
        available_w = max(inputs.available_w, 0.0)
        self.available_w = available_w
        if not self.connected:
            self._lag.value = 0.0
            self.power_w = self.dc_power_w = 0.0
            self._throttled = False
            return
        ceiling_w = self.limit_w
        if self._volt_watt:
            ceiling_w = min(ceiling_w, self.rated_w * interpolate(self._volt_watt, max(self.voltage_v)))
        self._throttled = ceiling_w < available_w
        lag = self._lag
        generation_w = lag.step(ceiling_w if self._throttled else available_w, dt_s)
        if generation_w > available_w:
            lag.value = generation_w = available_w
        self.power_w = -generation_w
        self.dc_power_w = generation_w / CONVERSION_EFFICIENCY

    def _watch_voltage(self, end_s: float) -> None:
        if self._trip_voltage_v is None:
            return
        if max(self.voltage_v) > self._trip_voltage_v:
            self.tripped = True
            self._reconnect_at_s = end_s + self._reconnect_after_s
        elif self.tripped and end_s >= self._reconnect_at_s:
            self.tripped = False

    def _default_models(self) -> tuple[int, ...]:
        if self._der:
            return (1, 701, 702, 703, 704, 714, 715)
        return (1, 101 if self.phases == 1 else 103, 120, 121, 122, 123, 160)

    def _model(self, model_id: int) -> SunSpecBlock:
        if 101 <= model_id <= 113:
            return self._ac_block(model_id)
        builders: dict[int, Callable[[], SunSpecBlock]] = {
            1: lambda: self._common_block("simulated PV inverter"),
            120: lambda: nameplate_block(self, der_type=4),
            121: lambda: settings_block(self),
            122: lambda: status_block(self, available_w=lambda: self.available_w),
            123: lambda: controls_block(self, self.limit),
            160: self._mppt_block,
            701: self._der_ac_block,
            702: lambda: der_capacity_block(self, charge_w=None, discharge_w=None),
            703: lambda: enter_service_block(self),
            704: lambda: der_control_block(self, self.limit, None),
            714: self._dc_ports_block,
            715: lambda: der_heartbeat_block(self),
        }
        return builders[model_id]()

    def _mppt_block(self) -> SunSpecBlock:
        fixed: dict[str, Value] = {"DCA_SF": -2, "DCV_SF": -1, "DCW_SF": 0, "DCWH_SF": 0, "1.ID": 1, "1.IDStr": "String 1"}
        if self.rated_w > 60_000.0:
            fixed["DCW_SF"] = 1
        return SunSpecBlock(160, fixed, live=self._mppt_values, repeats=1, measures=True)

    def _mppt_values(self) -> Mapping[str, Value]:
        return {
            "1.DCA": self.dc_power_w / DC_VOLTAGE_V,
            "1.DCV": DC_VOLTAGE_V,
            "1.DCW": self.dc_power_w,
            "1.DCWH": int(self.energy_out_wh / CONVERSION_EFFICIENCY),
            "1.DCSt": self.operating_state(),
        }

    def _dc_ports_block(self) -> SunSpecBlock:
        fixed: dict[str, Value] = {"DCA_SF": -2, "DCV_SF": -1, "DCW_SF": 0, "DCWH_SF": 0, "PrtAlrms": 0}
        fixed |= {"1.PrtTyp": 0, "1.ID": 1, "1.IDStr": "PV", "1.DCSta": 1}
        return SunSpecBlock(714, fixed, live=self._dc_port_values, repeats=1, measures=True)

    def _dc_port_values(self) -> Mapping[str, Value]:
        energy_wh = int(self.energy_out_wh / CONVERSION_EFFICIENCY)
        current_a = self.dc_power_w / DC_VOLTAGE_V
        values: dict[str, Value] = {"DCA": current_a, "DCW": self.dc_power_w, "DCWhInj": energy_wh}
        return values | {"1.DCA": current_a, "1.DCV": DC_VOLTAGE_V, "1.DCW": self.dc_power_w, "1.DCWhInj": energy_wh}


def interpolate(curve: VoltWatt, voltage_v: float) -> float:
    """The piecewise linear curve at a voltage; constant beyond its ends."""
    if voltage_v <= curve[0][0]:
        return curve[0][1]
    for (low_v, low), (high_v, high) in itertools.pairwise(curve):
        if voltage_v <= high_v:
            return low + (high - low) * (voltage_v - low_v) / (high_v - low_v)
    return curve[-1][1]
