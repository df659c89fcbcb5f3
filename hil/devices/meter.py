"""A simulated SunSpec meter at the connection point: models 1 and 203 (201 with one phase; 213 and 211 as floats).

Power is positive into the house, so W > 0 is import; a meter with the quirk `export_positive` turns every power around, as some that
are mounted or configured the other way do (its energy counters stay right). The counters add the phases before they count.
"""

from collections.abc import Mapping

from hil.devices.device import Inputs
from hil.devices.quirks import Quirks
from hil.devices.sunspec import SunSpecBlock, Value
from hil.devices.sunspec_device import PHASE_LETTERS, SunSpecDevice, scale_for
from hil.errors import HilError


class Meter(SunSpecDevice):
    """See the module; `rated_w` is the largest power that the meter must be able to show."""

    kind = "meter"

    def __init__(
        self, name: str, *, rated_w: float = 30_000.0, unit: int = 1, phases: int = 1, quirks: Quirks | None = None
    ) -> None:
        self.rated_w = rated_w
        self.phase_power_w: tuple[float, ...] = (0.0,) * phases
        super().__init__(name, unit=unit, phases=phases, quirks=quirks)

    def forget_setpoints(self) -> None:
        """A meter has none."""

    def foreign_setpoint(self, share: float) -> None:
        """A meter cannot be commanded."""

    def _step(self, end_s: float, dt_s: float, inputs: Inputs) -> None:
        if len(inputs.phase_power_w) != self.phases:
            raise HilError(f"{self.name}: expected {self.phases} phase powers, got {len(inputs.phase_power_w)}")
        self.phase_power_w = inputs.phase_power_w
        self.power_w = sum(inputs.phase_power_w)

    def _default_models(self) -> tuple[int, ...]:
        return (1, 201 if self.phases == 1 else 203)

    def _model(self, model_id: int) -> SunSpecBlock:
        if model_id == 1:
            return self._common_block("simulated meter")
        if not 201 <= model_id <= 213:
            raise KeyError(model_id)
        power_sf = scale_for(1.1 * self.rated_w)
        fixed: dict[str, Value] = {"A_SF": -2, "V_SF": -1, "Hz_SF": -2, "W_SF": power_sf, "VA_SF": power_sf, "VAR_SF": power_sf}
        fixed |= {"PF_SF": -2, "TotWh_SF": 0, "Evt": 0}
        if self.rated_w > 50_000.0:
            fixed["A_SF"] = -1
        autorange = self.quirks.autorange and model_id < 210
        return SunSpecBlock(model_id, fixed, live=self._values, autorange=autorange, measures=True)

    def _values(self) -> Mapping[str, Value]:
        sign = -1.0 if self.quirks.export_positive else 1.0
        phase_power_w, voltages = self.phase_power_w, self.voltage_v
        mean_v = sum(voltages) / len(voltages)
        total_w = sign * self.rounded_w(sum(phase_power_w))
        apparent_va = 0.0
        total_a = 0.0
        values: dict[str, Value] = {}
        for letter, power_w, voltage_v in zip(PHASE_LETTERS, phase_power_w, voltages, strict=False):
            current_a = sign * power_w / voltage_v if voltage_v > 0.0 else 0.0
            values["PhVph" + letter] = voltage_v
            values["Wph" + letter] = sign * self.rounded_w(power_w)
            values["Aph" + letter] = current_a
            values["VAph" + letter] = abs(power_w)
            apparent_va += abs(power_w)
            total_a += current_a
        values["A"] = total_a
        values["PhV"] = mean_v
        values["Hz"] = self.frequency_hz
        values["W"] = total_w
        values["VA"] = apparent_va
        values["VAR"] = 0.0
        values["PF"] = 100.0 if apparent_va == 0.0 else 100.0 * total_w / apparent_va
        values["TotWhImp"] = int(self.energy_in_wh)
        values["TotWhExp"] = int(self.energy_out_wh)
        if self.phases > 1:
            values["PPV"] = mean_v * 3.0**0.5
        return values
