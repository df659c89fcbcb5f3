"""The generation limit of an inverter as it is commanded through models 123 and 704, and the setpoint of 704.

The two models write one limit through different doors: 123 has no reversion value, so when its timer runs out the limit is gone;
704 reverts to `WMaxLimPctRvrt` with `WMaxLimPctEnaRvrt`. Percentages refer to WMax (model 121 or 702).
"""

from collections.abc import Mapping

from hil.devices.control import RevertingSetpoint
from hil.devices.registers import ILLEGAL_VALUE, ModbusRefusal
from hil.devices.sunspec import Value


class GenerationLimit:
    """WMaxLimPct with its enable point, ramp and reversion, as a share of WMax."""

    def __init__(self, *, step_frac: float, rearm_on_any_write: bool) -> None:
        self.setpoint = RevertingSetpoint(1.0)
        self._step_frac = step_frac
        self._rearm_on_any_write = rearm_on_any_write

    def reset(self) -> None:
        """As after a reboot: no limit."""
        self.setpoint.reset()

    def tick(self, now_s: float) -> None:
        """Let the reversion timer run out."""
        self.setpoint.tick(now_s)

    def effective_frac(self, now_s: float) -> float:
        """The share of WMax that may be generated now."""
        return self.setpoint.effective(now_s)

    def impose(self, share: float) -> None:
        """A limit from somebody else, without ramp or timer."""
        self.setpoint.reset()
        self.setpoint.value = self._quantised(share)
        self.setpoint.enabled = True

    def controls_values(self) -> Mapping[str, Value]:
        """The live points of model 123 that belong to the limit."""
        limit = self.setpoint
        return {
            "WMaxLimPct": 100.0 * limit.value,
            "WMaxLimPct_RvrtTms": round(limit.revert_after_s),
            "WMaxLimPct_RmpTms": round(limit.ramp_s),
            "WMaxLim_Ena": int(limit.enabled),
        }

    def take_controls(self, values: Mapping[str, float], now_s: float) -> None:
        """A write to model 123."""
        limit = self.setpoint
        _check_percent(values.get("WMaxLimPct"))
        _check_flag(values.get("WMaxLim_Ena"))
        names = values.keys() & {"WMaxLimPct", "WMaxLimPct_RvrtTms", "WMaxLimPct_RmpTms", "WMaxLim_Ena"}
        if not names:
            return
        if "WMaxLimPct_RvrtTms" in values:
            limit.revert_after_s = values["WMaxLimPct_RvrtTms"]
        if "WMaxLimPct_RmpTms" in values:
            limit.ramp_s = values["WMaxLimPct_RmpTms"]
        if "WMaxLimPct" in values:
            limit.set(self._quantised(values["WMaxLimPct"] / 100.0), now_s)
        if "WMaxLim_Ena" in values:
            limit.enabled = values["WMaxLim_Ena"] == 1
        limit.revert_enabled, limit.revert_value = False, None
        if self._rearm_on_any_write or "WMaxLim_Ena" in values:
            limit.rearm(now_s)

    def der_values(self, now_s: float) -> Mapping[str, Value]:
        """The live points of model 704 that belong to the limit."""
        limit = self.setpoint
        return {
            "WMaxLimPctEna": int(limit.enabled),
            "WMaxLimPct": 100.0 * limit.value,
            "WMaxLimPctRvrt": 100.0 if limit.revert_value is None else 100.0 * limit.revert_value,
            "WMaxLimPctEnaRvrt": int(limit.revert_enabled),
            "WMaxLimPctRvrtTms": round(limit.revert_after_s),
            "WMaxLimPctRvrtRem": round(limit.remaining_s(now_s)),
        }

    def take_der(self, values: Mapping[str, float], now_s: float) -> None:
        """A write to model 704."""
        limit = self.setpoint
        for name in ("WMaxLimPct", "WMaxLimPctRvrt"):
            _check_percent(values.get(name))
        for name in ("WMaxLimPctEna", "WMaxLimPctEnaRvrt"):
            _check_flag(values.get(name))
        if not any(name.startswith("WMaxLimPct") for name in values):
            return
        if "WMaxLimPctRvrtTms" in values:
            limit.revert_after_s = values["WMaxLimPctRvrtTms"]
        if "WMaxLimPctRvrt" in values:
            limit.revert_value = self._quantised(values["WMaxLimPctRvrt"] / 100.0)
        if "WMaxLimPctEnaRvrt" in values:
            limit.revert_enabled = values["WMaxLimPctEnaRvrt"] == 1
        if "WMaxLimPct" in values:
            limit.set(self._quantised(values["WMaxLimPct"] / 100.0), now_s)
        if "WMaxLimPctEna" in values:
            limit.enabled = values["WMaxLimPctEna"] == 1
        if self._rearm_on_any_write or "WMaxLimPctEna" in values:
            limit.rearm(now_s)

    def _quantised(self, share: float) -> float:
        if self._step_frac <= 0.0:
            return share
        return int(share / self._step_frac + 1e-9) * self._step_frac


class PowerSetpoint:
    """WSet of model 704: active power out of the inverter, in watts or in percent of WMax as WSetMod says, with its reversion."""

    def __init__(self, *, max_w: float, rearm_on_any_write: bool) -> None:
        self.output_w = RevertingSetpoint(0.0)
        self._max_w = max_w
        self._rearm_on_any_write = rearm_on_any_write
        self.reset()

    def reset(self) -> None:
        """As after a reboot."""
        self.output_w.reset()
        self._mode_watts = True
        self._set = {"WSet": 0.0, "WSetPct": 0.0, "WSetRvrt": 0.0, "WSetPctRvrt": 0.0}

    def impose(self, output_w: float) -> None:
        """A setpoint from somebody else, without a timer."""
        self.reset()
        self._set["WSet"] = output_w
        self.output_w.value = output_w
        self.output_w.enabled = True

    def tick(self, now_s: float) -> None:
        """Let the reversion timer run out; the reversion values then are the values."""
        if self.output_w.tick(now_s):
            self._set["WSet"] = self._set["WSetRvrt"]
            self._set["WSetPct"] = self._set["WSetPctRvrt"]

    def values(self, now_s: float) -> Mapping[str, Value]:
        """The live points of model 704 that belong to the setpoint."""
        setpoint = self.output_w
        return {
            **self._set,
            "WSetEna": int(setpoint.enabled),
            "WSetMod": int(self._mode_watts),
            "WSetEnaRvrt": int(setpoint.revert_enabled),
            "WSetRvrtTms": round(setpoint.revert_after_s),
            "WSetRvrtRem": round(setpoint.remaining_s(now_s)),
        }

    def take(self, values: Mapping[str, float], now_s: float) -> None:
        """A write to model 704; a setpoint beyond the ratings is kept as written and saturates in the inverter."""
        setpoint = self.output_w
        for name in ("WSetEna", "WSetEnaRvrt", "WSetMod"):
            _check_flag(values.get(name))
        if not any(name.startswith("WSet") for name in values):
            return
        if "WSetMod" in values:
            self._mode_watts = values["WSetMod"] == 1
        for name in self._set.keys() & values.keys():
            self._set[name] = values[name]
        if "WSetRvrtTms" in values:
            setpoint.revert_after_s = values["WSetRvrtTms"]
        if "WSetEnaRvrt" in values:
            setpoint.revert_enabled = values["WSetEnaRvrt"] == 1
        if values.keys() & {"WSet", "WSetPct", "WSetMod"}:
            setpoint.set(self._chosen_w("WSet", "WSetPct"), now_s)
        setpoint.revert_value = self._chosen_w("WSetRvrt", "WSetPctRvrt")
        if "WSetEna" in values:
            setpoint.enabled = values["WSetEna"] == 1
        if self._rearm_on_any_write or "WSetEna" in values:
            setpoint.rearm(now_s)

    def _chosen_w(self, watts: str, percent: str) -> float:
        return self._set[watts] if self._mode_watts else self._set[percent] / 100.0 * self._max_w


def _check_percent(value: float | None) -> None:
    if value is not None and not 0.0 <= value <= 100.0:
        raise ModbusRefusal(ILLEGAL_VALUE)


def _check_flag(value: float | None) -> None:
    if value is not None and value not in (0, 1):
        raise ModbusRefusal(ILLEGAL_VALUE)
