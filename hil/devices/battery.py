"""A simulated battery inverter: an energy store with efficiencies and limits behind a bidirectional inverter.

Energy in the store changes by power x efficiency while it charges and by power / efficiency while it discharges. A command comes
through WSet of model 704, or through the charge and discharge rates of model 124, or, while neither is enabled, from the inverter
itself: it idles, or it brings the net import of the connection point towards zero. Rates of 124 are a window: power stays between
-OutWRte and +InWRte, and a negative rate forces the other direction, as hybrid inverters on the market read them.
"""

import math
from collections.abc import Callable, Mapping

from hil.devices.control import Lag, RevertingSetpoint
from hil.devices.device import Inputs
from hil.devices.limits import GenerationLimit, PowerSetpoint
from hil.devices.quirks import Quirks
from hil.devices.registers import ILLEGAL_VALUE, ModbusRefusal
from hil.devices.sunspec import SunSpecBlock, Value
from hil.devices.sunspec_device import DC_VOLTAGE_V, Inverter, scale_for
from hil.devices.sunspec_models import (
    HEARTBEAT_PERIOD,
    controls_block,
    der_capacity_block,
    der_control_block,
    der_heartbeat_block,
    enter_service_block,
    nameplate_block,
    settings_block,
    status_block,
)

BATTERY_LAG_S = 0.5
ONE_WAY_EFFICIENCY = 0.96
HELD_BELOW_W = 1.0
CHARGE_LIMITED = 1 << 0
DISCHARGE_LIMITED = 1 << 1


class BatteryInverter(Inverter):
    """See the module. `legacy` serves 1, 103, 120, 121, 122, 123, 124, 802; otherwise 1, 701, 702, 703, 704, 713, 714, 715, 802."""

    kind = "battery"

    def __init__(
        self,
        name: str,
        *,
        capacity_wh: float,
        max_charge_w: float,
        max_discharge_w: float,
        soc_frac: float = 0.5,
        soc_min_frac: float = 0.05,
        soc_max_frac: float = 1.0,
        charge_efficiency_frac: float = ONE_WAY_EFFICIENCY,
        discharge_efficiency_frac: float = ONE_WAY_EFFICIENCY,
        self_consumption: bool = False,
        legacy: bool = False,
        rated_w: float | None = None,
        unit: int = 1,
        phases: int = 1,
        lag_s: float = BATTERY_LAG_S,
        ramp_w_per_s: float | None = None,
        quirks: Quirks | None = None,
    ) -> None:
        options = Quirks() if quirks is None else quirks
        self.capacity_wh = capacity_wh
        self.max_charge_w = max_charge_w
        self.max_discharge_w = max_discharge_w
        self.energy_wh = soc_frac * capacity_wh
        self.soc_min_frac = soc_min_frac
        self.soc_max_frac = soc_max_frac
        self.reserve_frac = soc_min_frac
        self.charge_efficiency_frac = charge_efficiency_frac
        self.discharge_efficiency_frac = discharge_efficiency_frac
        self.self_consumption = self_consumption
        rated_w = max(max_charge_w, max_discharge_w) if rated_w is None else rated_w
        rearm = options.rearm_on_any_write
        self.limit = GenerationLimit(step_frac=options.setpoint_step_frac, rearm_on_any_write=rearm)
        self.setpoint = PowerSetpoint(max_w=rated_w, rearm_on_any_write=rearm)
        self.rates = RateWindow(charge_w=max_charge_w, discharge_w=max_discharge_w, rearm_on_any_write=rearm)
        self.store_dc_w = 0.0
        self._legacy = legacy
        self._lag = Lag(lag_s, rate_per_s=ramp_w_per_s)
        super().__init__(name, unit=unit, phases=phases, quirks=options, rated_w=rated_w)

    @property
    def soc_frac(self) -> float:
        """State of charge."""
        return self.energy_wh / self.capacity_wh

    def operating_state(self) -> int:
        """OFF, MPPT (which stands for running) or STANDBY."""
        if not self.connected:
            return 1
        return 8 if abs(self.power_w) < HELD_BELOW_W else 4

    def throttled_frac(self) -> float | None:
        """A battery does not count as throttled."""
        return None

    def charge_state(self) -> int:
        """ChaSt of 124 and 802: OFF, EMPTY, DISCHARGING, CHARGING, FULL or HOLDING."""
        if not self.connected:
            return 1
        if self.power_w > HELD_BELOW_W:
            return 4
        if self.power_w < -HELD_BELOW_W:
            return 3
        if self.soc_frac >= self.soc_max_frac - 1e-6:
            return 5
        return 2 if self.soc_frac <= self.soc_min_frac + 1e-6 else 6

    def forget_setpoints(self) -> None:
        """On its own again."""
        self.limit.reset()
        self.setpoint.reset()
        self.rates.reset()
        self.connect_requested = True

    def foreign_setpoint(self, share: float) -> None:
        """Somebody else commands charging at a share of the rating (negative: discharging)."""
        if 704 in self.blocks:
            self.setpoint.impose(-share * self.rated_w)
        else:
            self.rates.impose(share)

    def _step(self, end_s: float, dt_s: float, inputs: Inputs) -> None:
        self._tick(end_s)
        if not self.connected:
            self._lag.value = self.power_w = self.dc_power_w = self.store_dc_w = 0.0
            return
        target_w = self._own_target_w(inputs)
        if self.obeys and self.setpoint.output_w.enabled:
            target_w = -self.setpoint.output_w.effective(end_s)
        elif self.obeys:
            target_w = self.rates.narrowed_w(target_w)
        most_discharge_w = min(self.max_discharge_w, self.max_w * self.limit.effective_frac(end_s))
        self.power_w = self._move_store(min(max(target_w, -most_discharge_w), self.max_charge_w), dt_s)
        self.dc_power_w = self.store_dc_w

    def _tick(self, end_s: float) -> None:
        self.limit.tick(end_s)
        self.setpoint.tick(end_s)
        self.rates.tick(end_s)

    def _own_target_w(self, inputs: Inputs) -> float:
        """What the inverter does without a command."""
        return self.power_w - inputs.net_import_w if self.self_consumption else 0.0

    def _move_store(self, target_w: float, dt_s: float) -> float:
        """Approach a battery power for one step, as far as the energy in the store allows; returns the power reached."""
        lag = self._lag
        power_w = lag.value = self._within_store(lag.step(target_w, dt_s), dt_s)
        if power_w > 0.0:
            self.store_dc_w = -power_w * self.charge_efficiency_frac
        else:
            self.store_dc_w = -power_w / self.discharge_efficiency_frac
        self.energy_wh -= self.store_dc_w * dt_s / 3600.0
        return power_w

    def _within_store(self, power_w: float, dt_s: float) -> float:
        """The power that the energy in the store allows during this step."""
        if dt_s <= 0.0:
            return power_w
        if power_w > 0.0:
            room_wh = max(self.soc_max_frac * self.capacity_wh - self.energy_wh, 0.0)
            return min(power_w, room_wh * 3600.0 / dt_s / self.charge_efficiency_frac)
        floor_frac = max(self.soc_min_frac, self.reserve_frac)
        stored_wh = max(self.energy_wh - floor_frac * self.capacity_wh, 0.0)
        return max(power_w, -stored_wh * 3600.0 / dt_s * self.discharge_efficiency_frac)

    def _default_models(self) -> tuple[int, ...]:
        if self._legacy:
            return (1, 101 if self.phases == 1 else 103, 120, 121, 122, 123, 124, 802)
        return (1, 701, 702, 703, 704, 713, 714, 715, 802)

    def _model(self, model_id: int) -> SunSpecBlock:
        if 101 <= model_id <= 113:
            return self._ac_block(model_id)
        builders: dict[int, Callable[[], SunSpecBlock]] = {
            1: lambda: self._common_block("simulated battery inverter"),
            120: lambda: nameplate_block(self, der_type=82, capacity_wh=self.capacity_wh),
            121: lambda: settings_block(self),
            122: lambda: status_block(self, available_w=None),
            123: lambda: controls_block(self, self.limit),
            124: self._storage_block,
            701: self._der_ac_block,
            702: lambda: der_capacity_block(self, charge_w=self.max_charge_w, discharge_w=self.max_discharge_w),
            703: lambda: enter_service_block(self),
            704: lambda: der_control_block(self, self.limit, self.setpoint),
            713: self._capacity_block,
            714: self._dc_ports_block,
            715: lambda: der_heartbeat_block(self),
            802: self._battery_block,
        }
        return builders[model_id]()

    def _storage_block(self) -> SunSpecBlock:
        def values() -> Mapping[str, Value]:
            return {
                **self.rates.values(),
                "MinRsvPct": 100.0 * self.reserve_frac,
                "ChaState": 100.0 * self.soc_frac,
                "InBatV": DC_VOLTAGE_V,
                "ChaSt": self.charge_state(),
            }

        def take(written: Mapping[str, float]) -> None:
            if written.get("InOutWRte_WinTms", 0) != 0 or written.get("InOutWRte_RmpTms", 0) != 0:
                raise ModbusRefusal(ILLEGAL_VALUE)
            self._take_reserve(written.get("MinRsvPct"))
            self.rates.take(written, self.now_s)
            self.count_writes("124", tuple(written))

        fixed: dict[str, Value] = {"WChaMax_SF": scale_for(self.max_charge_w, raw="uint16"), "WChaDisChaGra_SF": 0}
        fixed |= {"MinRsvPct_SF": -2, "ChaState_SF": -2, "InBatV_SF": -1, "InOutWRte_SF": -2}
        fixed |= {"WChaGra": 100.0, "WDisChaGra": 100.0, "ChaGriSet": 1, "InOutWRte_WinTms": 0, "InOutWRte_RmpTms": 0}
        return SunSpecBlock(124, fixed, live=values, commands=take)

    def _capacity_block(self) -> SunSpecBlock:
        def values() -> Mapping[str, Value]:
            return {"WHAvail": self.energy_wh, "SoC": 100.0 * self.soc_frac, "SoH": 100.0}

        energy_sf = scale_for(self.capacity_wh, raw="uint16", finest=0)
        fixed: dict[str, Value] = {"WH_SF": energy_sf, "Pct_SF": -2, "WHRtg": self.capacity_wh, "Sta": 0}
        return SunSpecBlock(713, fixed, live=values, measures=True)

    def _dc_ports_block(self) -> SunSpecBlock:
        def values() -> Mapping[str, Value]:
            power_w, current_a = self.store_dc_w, self.store_dc_w / DC_VOLTAGE_V
            return {"DCA": current_a, "DCW": power_w, "1.DCA": current_a, "1.DCV": DC_VOLTAGE_V, "1.DCW": power_w}

        fixed: dict[str, Value] = {"DCA_SF": -2, "DCV_SF": -1, "DCW_SF": scale_for(1.1 * self.rated_w), "PrtAlrms": 0}
        fixed |= {"1.PrtTyp": 1, "1.ID": 1, "1.IDStr": "Battery", "1.DCSta": 1}
        return SunSpecBlock(714, fixed, live=values, repeats=1, measures=True)

    def _battery_block(self) -> SunSpecBlock:
        rate_sf = scale_for(max(self.max_charge_w, self.max_discharge_w), raw="uint16")
        energy_sf = scale_for(self.capacity_wh, raw="uint16", finest=0)
        fixed: dict[str, Value] = {"AHRtg_SF": -1, "WHRtg_SF": energy_sf, "WChaDisChaMax_SF": rate_sf, "SoC_SF": -2, "SoH_SF": -2}
        fixed |= {"V_SF": -1, "A_SF": -2, "AMax_SF": -1, "W_SF": scale_for(1.1 * self.rated_w), "CellV_SF": -3}
        fixed |= {"AHRtg": self.capacity_wh / DC_VOLTAGE_V, "WHRtg": self.capacity_wh}
        fixed |= {"WChaRteMax": self.max_charge_w, "WDisChaRteMax": self.max_discharge_w}
        fixed |= {"SoCMax": 100.0 * self.soc_max_frac, "SoCMin": 100.0 * self.soc_min_frac, "SoH": 100.0}
        fixed |= {"LocRemCtl": 0, "CtrlHb": 0, "AlmRst": 0, "Typ": 4, "Evt1": 0, "Evt2": 0, "EvtVnd1": 0, "EvtVnd2": 0}
        fixed["SetInvState"] = 3
        return SunSpecBlock(802, fixed, live=self._battery_values, commands=self._take_battery, measures=True)

    def _battery_values(self) -> Mapping[str, Value]:
        return {
            "SoCRsvMin": 100.0 * self.reserve_frac,
            "SoC": 100.0 * self.soc_frac,
            "ChaSt": self.charge_state(),
            "Hb": int(self.now_s) % HEARTBEAT_PERIOD,
            "State": 3 if self.connected else 1,
            "V": DC_VOLTAGE_V,
            "A": self.store_dc_w / DC_VOLTAGE_V,
            "W": self.store_dc_w,
            "SetOp": 1 if self.connect_requested else 2,
        }

    def _take_battery(self, written: Mapping[str, float]) -> None:
        if written.get("SetOp", 1) not in (1, 2) or written.get("SetInvState", 3) not in (1, 2, 3):
            raise ModbusRefusal(ILLEGAL_VALUE)
        self._take_reserve(written.get("SoCRsvMin"))
        if "SetOp" in written:
            self.connect_requested = written["SetOp"] == 1
        self.count_writes("802", tuple(written))

    def _take_reserve(self, percent: float | None) -> None:
        if percent is None:
            return
        if not 0.0 <= percent <= 100.0:
            raise ModbusRefusal(ILLEGAL_VALUE)
        self.reserve_frac = percent / 100.0


class RateWindow:
    """The charge and discharge rates of model 124 with their reversion timer; at its end both directions are free again."""

    def __init__(self, *, charge_w: float, discharge_w: float, rearm_on_any_write: bool) -> None:
        self._timer = RevertingSetpoint(0.0)
        self._rated_charge_w = charge_w
        self._rated_discharge_w = discharge_w
        self._rearm_on_any_write = rearm_on_any_write
        self.reset()

    def reset(self) -> None:
        """As after a reboot."""
        self._timer.reset()
        self._mode = 0
        self._max_charge_w = self._rated_charge_w
        self._in_frac = 1.0
        self._out_frac = 1.0

    def tick(self, now_s: float) -> None:
        """Let the reversion timer run out."""
        if self._timer.tick(now_s):
            self._mode = 0

    def impose(self, share: float) -> None:
        """Somebody else pins the power to a share of the rating."""
        self.reset()
        self._mode = CHARGE_LIMITED | DISCHARGE_LIMITED
        self._in_frac, self._out_frac = share, -share

    def narrowed_w(self, power_w: float) -> float:
        """The inverter's own choice, narrowed to the window in force; where its ends contradict each other the charge rate holds."""
        if not self._mode:
            return power_w
        low_w = -self._rated_discharge_w * self._out_frac if self._mode & DISCHARGE_LIMITED else -math.inf
        high_w = self._max_charge_w * self._in_frac if self._mode & CHARGE_LIMITED else math.inf
        return min(max(power_w, low_w), high_w)

    def values(self) -> Mapping[str, Value]:
        """The live points of model 124 that belong to the window."""
        return {
            "WChaMax": self._max_charge_w,
            "StorCtl_Mod": self._mode,
            "OutWRte": 100.0 * self._out_frac,
            "InWRte": 100.0 * self._in_frac,
            "InOutWRte_RvrtTms": round(self._timer.revert_after_s),
        }

    def take(self, values: Mapping[str, float], now_s: float) -> None:
        """A write to model 124."""
        rates = [values[name] for name in ("OutWRte", "InWRte") if name in values]
        if any(not -100.0 <= rate <= 100.0 for rate in rates) or values.get("StorCtl_Mod", 0) not in (0, 1, 2, 3):
            raise ModbusRefusal(ILLEGAL_VALUE)
        self._max_charge_w = min(values.get("WChaMax", self._max_charge_w), self._rated_charge_w)
        self._in_frac = values.get("InWRte", 100.0 * self._in_frac) / 100.0
        self._out_frac = values.get("OutWRte", 100.0 * self._out_frac) / 100.0
        self._mode = int(values.get("StorCtl_Mod", self._mode))
        self._timer.revert_after_s = values.get("InOutWRte_RvrtTms", self._timer.revert_after_s)
        self._timer.enabled = self._mode != 0
        if self._rearm_on_any_write or "StorCtl_Mod" in values:
            self._timer.rearm(now_s)
