"""Devices that present themselves as a chain of SunSpec models, and the alternating-current side that all inverters share.

Signs: SunSpec's inverter models count generation positive (models 101-103 and 701); `power_w` of a device counts it negative.
"""

from abc import abstractmethod
from collections.abc import Mapping

from hil.devices.device import SimulatedDevice
from hil.devices.layouts import TYPES
from hil.devices.registers import Block, RegisterMap
from hil.devices.sunspec import SunSpecBlock, Value, sunspec_map

MANUFACTURER = "Commonwatt"
FIRMWARE = "1.0"
CONVERSION_EFFICIENCY = 0.97
DC_VOLTAGE_V = 380.0
CABINET_C = 35.0
FLOAT_MODELS = {101: 111, 102: 112, 103: 113, 201: 211, 202: 212, 203: 213, 204: 214}
PHASE_LETTERS = "ABC"

GRID_DISCONNECTED = 1 << 4
AC_OVER_VOLTAGE = 1 << 10
"""Bits of Evt1 in models 101-103 and of Alrm in 701, which agree in these."""


def scale_for(most: float, *, raw: str = "int16", finest: int = -1) -> int:
    """The finest scale factor, not finer than `finest`, with which values up to `most` fit the raw type."""
    exponent = finest
    while most > TYPES[raw].high * 10.0**exponent:
        exponent += 1
    return exponent


class SunSpecDevice(SimulatedDevice):
    """A device whose registers are a SunSpec map."""

    blocks: dict[int, SunSpecBlock]

    @property
    def model_ids(self) -> tuple[int, ...]:
        """The models in the order of the map."""
        return tuple(self.blocks)

    @abstractmethod
    def _default_models(self) -> tuple[int, ...]:
        """The chain that this device serves unless its quirks say otherwise."""

    @abstractmethod
    def _model(self, model_id: int) -> SunSpecBlock:
        """The block of one model; a KeyError names a model that this kind of device cannot serve."""

    def _build_registers(self) -> RegisterMap:
        quirks = self.quirks
        chain = self._default_models() if quirks.models is None else quirks.models
        if quirks.float_models:
            chain = tuple(FLOAT_MODELS.get(model_id, model_id) for model_id in chain)
        self.blocks = {model_id: self._model(model_id) for model_id in chain}
        segment = sunspec_map(quirks.base_address, list[Block](self.blocks.values()))
        return RegisterMap([segment], zeros_past_end=quirks.zeros_past_end, whole_blocks=quirks.whole_models)

    def _common_block(self, product: str) -> SunSpecBlock:
        fixed: dict[str, Value] = {
            "Mn": MANUFACTURER,
            "Md": product,
            "Vr": FIRMWARE,
            "SN": self.name,
            "DA": self.unit,
        }
        return SunSpecBlock(1, fixed, drop_pad=self.quirks.common_length == 65)


class Inverter(SunSpecDevice):
    """The alternating-current side of PV and battery inverters: ratings, measurements, overvoltage trip."""

    def __init__(self, *args: object, rated_w: float, **options: object) -> None:
        self.rated_w = rated_w
        self.max_w = rated_w
        self.dc_power_w = 0.0
        self.tripped = False
        self.connect_requested = True
        super().__init__(*args, **options)  # type: ignore[arg-type]

    @property
    def generation_w(self) -> float:
        """Power out of the inverter, positive when it generates."""
        return -self.power_w

    @property
    def connected(self) -> bool:
        """Whether the inverter is connected to the grid."""
        return self.online and self.connect_requested and not self.tripped

    @abstractmethod
    def operating_state(self) -> int:
        """St of models 101-103."""

    @abstractmethod
    def throttled_frac(self) -> float | None:
        """By how much generation is held below what would be possible, None when it is not throttled."""

    def alarms(self) -> int:
        """Evt1 of 101-103 and Alrm of 701."""
        if self.tripped:
            return AC_OVER_VOLTAGE | GRID_DISCONNECTED
        return 0 if self.connected else GRID_DISCONNECTED

    def _ac_block(self, model_id: int) -> SunSpecBlock:
        """Models 101-103 and 111-113."""
        power_sf = scale_for(1.1 * self.rated_w)
        fixed = {"A_SF": -2, "V_SF": -1, "W_SF": power_sf, "Hz_SF": -2, "VA_SF": power_sf, "VAr_SF": power_sf, "PF_SF": -2}
        fixed |= {"WH_SF": 0, "DCA_SF": -2, "DCV_SF": -1, "DCW_SF": power_sf, "Tmp_SF": -1}
        autorange = self.quirks.autorange and model_id < 110
        return SunSpecBlock(model_id, fixed, live=self._ac_values, autorange=autorange, measures=True)

    def _ac_values(self) -> Mapping[str, Value]:
        power_w = self.rounded_w(-self.power_w)
        reactive_var = -self.reactive_var
        apparent_va = (power_w * power_w + reactive_var * reactive_var) ** 0.5
        voltages = self.voltage_v
        phase_va = apparent_va / len(voltages)
        values: dict[str, Value] = {
            "W": power_w,
            "VA": apparent_va,
            "VAr": reactive_var,
            "PF": 100.0 if apparent_va == 0.0 else 100.0 * power_w / apparent_va,
            "Hz": self.frequency_hz,
            "WH": int(self.energy_out_wh),
            "DCV": DC_VOLTAGE_V,
            "DCW": self.dc_power_w,
            "DCA": abs(self.dc_power_w) / DC_VOLTAGE_V,
            "TmpCab": CABINET_C,
            "St": self.operating_state(),
            "Evt1": self.alarms(),
            "Evt2": 0,
        }
        total_a = 0.0
        for letter, voltage_v in zip(PHASE_LETTERS, voltages, strict=False):
            current_a = phase_va / voltage_v if voltage_v > 0.0 else 0.0
            values["Aph" + letter] = current_a
            values["PhVph" + letter] = voltage_v
            total_a += current_a
        values["A"] = total_a
        return values

    def _der_ac_block(self) -> SunSpecBlock:
        """Model 701."""
        power_sf = scale_for(1.1 * self.rated_w)
        fixed: dict[str, Value] = {"A_SF": -2, "V_SF": -1, "Hz_SF": -2, "W_SF": power_sf, "VA_SF": power_sf, "Var_SF": power_sf}
        fixed |= {"PF_SF": -3, "TotWh_SF": 0, "Tmp_SF": -1, "ACType": 0 if self.phases == 1 else 2}
        return SunSpecBlock(701, fixed, live=self._der_ac_values, autorange=self.quirks.autorange, measures=True)

    def _der_ac_values(self) -> Mapping[str, Value]:
        power_w = self.rounded_w(-self.power_w)
        reactive_var = -self.reactive_var
        apparent_va = (power_w * power_w + reactive_var * reactive_var) ** 0.5
        voltages = self.voltage_v
        count = len(voltages)
        throttled = self.throttled_frac()
        connected = self.connected
        values: dict[str, Value] = {
            "St": int(connected),
            "InvSt": 6 if self.tripped else 0 if not connected else 4 if throttled is not None else 3 if power_w != 0.0 else 7,
            "ConnSt": int(connected),
            "Alrm": self.alarms(),
            "W": power_w,
            "VA": apparent_va,
            "Var": reactive_var,
            "PF": 1.0 if apparent_va == 0.0 else power_w / apparent_va,
            "A": sum(apparent_va / count / voltage_v for voltage_v in voltages if voltage_v > 0.0),
            "LNV": sum(voltages) / count,
            "Hz": self.frequency_hz,
            "TotWhInj": int(self.energy_out_wh),
            "TotWhAbs": int(self.energy_in_wh),
            "TmpCab": CABINET_C,
            "ThrotPct": 0 if throttled is None else round(100.0 * throttled),
            "ThrotSrc": 0 if throttled is None else 1,
        }
        for index, voltage_v in enumerate(voltages, 1):
            values[f"WL{index}"] = power_w / count
            values[f"VL{index}"] = voltage_v
            values[f"AL{index}"] = apparent_va / count / voltage_v if voltage_v > 0.0 else 0.0
        return values
