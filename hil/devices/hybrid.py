"""A simulated hybrid inverter: PV and battery on one direct-current side behind one inverter.

Power balance: output = pv - battery charging. WSet of model 704 and the limit WMaxLimPct concern the output; the rates of model 124 the
battery. With an output setpoint the battery takes the difference; where it cannot (full, empty, at its rating) the output follows the
sun, and what exceeds the limit or the rating of the inverter is curtailed. DC ports (model 714): PV first, battery second.
"""

from collections.abc import Mapping
from typing import Any

from hil.devices.battery import BatteryInverter
from hil.devices.device import Inputs
from hil.devices.sunspec import SunSpecBlock, Value
from hil.devices.sunspec_device import CONVERSION_EFFICIENCY, DC_VOLTAGE_V, scale_for


class HybridInverter(BatteryInverter):
    """See the module; `rated_w` is the rating of the inverter, `pv_rated_w` that of the panels."""

    kind = "hybrid"

    def __init__(self, name: str, *, rated_w: float, pv_rated_w: float, **options: Any) -> None:
        self.pv_rated_w = pv_rated_w
        self.pv_w = 0.0
        self.available_w = 0.0
        self.pv_energy_wh = 1.0
        super().__init__(name, rated_w=rated_w, **options)

    def operating_state(self) -> int:
        """OFF, THROTTLED, MPPT or STANDBY."""
        if self.connected and self.throttled_frac() is not None:
            return 5
        return super().operating_state()

    def throttled_frac(self) -> float | None:
        """The share of what the sun offers that is held back."""
        if not self.connected or self.pv_w >= self.available_w:
            return None
        return 1.0 - self.pv_w / self.available_w

    @property
    def battery_power_w(self) -> float:
        """Into the battery, at the inverter's side of the store."""
        return self._lag.value

    def _step(self, end_s: float, dt_s: float, inputs: Inputs) -> None:
        self._tick(end_s)
        self.available_w = min(max(inputs.available_w, 0.0), self.pv_rated_w)
        if not self.connected:
            self._lag.value = self.power_w = self.dc_power_w = self.store_dc_w = self.pv_w = 0.0
            return
        most_output_w = self.max_w * (self.limit.effective_frac(end_s) if self.obeys else 1.0)
        target_w = self._battery_target_w(end_s, inputs)
        lowest_w = self.available_w - most_output_w
        target_w = min(max(target_w, -self.max_discharge_w, min(lowest_w, 0.0)), self.max_charge_w)
        battery_w = self._move_store(target_w, dt_s)
        self.pv_w = min(self.available_w, max(most_output_w + battery_w, 0.0))
        self.pv_energy_wh += self.pv_w * dt_s / 3600.0
        self.power_w = battery_w - self.pv_w
        self.dc_power_w = self.store_dc_w + self.pv_w / CONVERSION_EFFICIENCY

    def _battery_target_w(self, end_s: float, inputs: Inputs) -> float:
        if self.obeys and self.setpoint.output_w.enabled:
            return self.available_w - self.setpoint.output_w.effective(end_s)
        own_w = self._lag.value - inputs.net_import_w if self.self_consumption else 0.0
        return self.rates.narrowed_w(own_w) if self.obeys else own_w

    def _default_models(self) -> tuple[int, ...]:
        if self._legacy:
            return (1, 101 if self.phases == 1 else 103, 120, 121, 122, 123, 124, 160, 802)
        return (1, 701, 702, 703, 704, 713, 714, 715, 802)

    def _model(self, model_id: int) -> SunSpecBlock:
        return self._strings_block() if model_id == 160 else super()._model(model_id)

    def _strings_block(self) -> SunSpecBlock:
        fixed: dict[str, Value] = {"DCA_SF": -2, "DCV_SF": -1, "DCW_SF": scale_for(1.1 * self.pv_rated_w), "DCWH_SF": 0}
        fixed |= {"1.ID": 1, "1.IDStr": "String 1"}

        def values() -> Mapping[str, Value]:
            power_w = self.pv_w / CONVERSION_EFFICIENCY
            energy_wh = int(self.pv_energy_wh)
            current_a = power_w / DC_VOLTAGE_V
            return {"1.DCA": current_a, "1.DCV": DC_VOLTAGE_V, "1.DCW": power_w, "1.DCWH": energy_wh, "1.DCSt": self.operating_state()}

        return SunSpecBlock(160, fixed, live=values, repeats=1, measures=True)

    def _dc_ports_block(self) -> SunSpecBlock:
        power_sf = scale_for(1.1 * max(self.rated_w, self.pv_rated_w))
        fixed: dict[str, Value] = {"DCA_SF": -2, "DCV_SF": -1, "DCW_SF": power_sf, "DCWH_SF": 0, "PrtAlrms": 0}
        fixed |= {"1.PrtTyp": 0, "1.ID": 1, "1.IDStr": "PV", "1.DCSta": 1}
        fixed |= {"2.PrtTyp": 1, "2.ID": 2, "2.IDStr": "Battery", "2.DCSta": 1}

        def values() -> Mapping[str, Value]:
            pv_dc_w, store_dc_w = self.pv_w / CONVERSION_EFFICIENCY, self.store_dc_w
            total_w = pv_dc_w + store_dc_w
            return {
                "DCA": total_w / DC_VOLTAGE_V,
                "DCW": total_w,
                "1.DCA": pv_dc_w / DC_VOLTAGE_V,
                "1.DCV": DC_VOLTAGE_V,
                "1.DCW": pv_dc_w,
                "1.DCWhInj": int(self.pv_energy_wh),
                "2.DCA": store_dc_w / DC_VOLTAGE_V,
                "2.DCV": DC_VOLTAGE_V,
                "2.DCW": store_dc_w,
            }

        return SunSpecBlock(714, fixed, live=values, repeats=2, measures=True)
