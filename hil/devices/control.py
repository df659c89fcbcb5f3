"""Two small pieces of dynamics that every controllable device has: a response that lags, and a setpoint that reverts."""

import math


class Lag:
    """First-order response with an optional largest rate of change.

    value' = (target - value) / tau_s, integrated exactly over a step for a constant target, then limited to `rate_per_s`.
    """

    __slots__ = ("_alpha", "_dt_s", "rate_per_s", "tau_s", "value")

    def __init__(self, tau_s: float, *, rate_per_s: float | None = None) -> None:
        self.tau_s = tau_s
        self.rate_per_s = rate_per_s
        self.value = 0.0
        self._dt_s = -1.0
        self._alpha = 1.0

    def step(self, target: float, dt_s: float) -> float:
        """Move towards the target for `dt_s` and return the new value."""
        if dt_s != self._dt_s:
            self._dt_s = dt_s
            self._alpha = 1.0 if self.tau_s <= 0.0 else -math.expm1(-dt_s / self.tau_s)
        change = (target - self.value) * self._alpha
        if self.rate_per_s is not None:
            most = self.rate_per_s * dt_s
            change = min(max(change, -most), most)
        self.value += change
        return self.value


class RevertingSetpoint:
    """A setpoint with an enable point, a ramp time and a reversion timer, as in models 123, 124 and 704.

    When the timer runs out the setpoint becomes `revert_value` and its enable point `revert_enabled`. Model 123 has no reversion
    value: its enable point falls to 0, which leaves the inverter uncurtailed. A timer of 0 s never runs out.
    """

    __slots__ = (
        "_deadline_s",
        "_ramp_end_s",
        "_ramp_from",
        "_ramp_start_s",
        "enabled",
        "initial_value",
        "ramp_s",
        "reversions",
        "revert_after_s",
        "revert_enabled",
        "revert_value",
        "value",
    )

    def __init__(self, value: float) -> None:
        self.initial_value = value
        self.reversions = 0
        self.reset()

    def reset(self) -> None:
        """As after a reboot: disabled, no timer."""
        self.enabled = False
        self.value = self.initial_value
        self.ramp_s = 0.0
        self.revert_after_s = 0.0
        self.revert_enabled = False
        self.revert_value: float | None = None
        self._deadline_s: float | None = None
        self._ramp_from = self.initial_value
        self._ramp_start_s = 0.0
        self._ramp_end_s = 0.0

    def set(self, value: float, now_s: float) -> None:
        """A new value; it takes effect along the ramp that is configured."""
        self._ramp_from = self.effective(now_s)
        self._ramp_start_s = now_s
        self._ramp_end_s = now_s + self.ramp_s
        self.value = value

    def rearm(self, now_s: float) -> None:
        """Start the reversion timer again, or stop it where none is configured or the control is disabled."""
        running = self.enabled and self.revert_after_s > 0.0
        self._deadline_s = now_s + self.revert_after_s if running else None

    def tick(self, now_s: float) -> bool:
        """True when the timer has just run out and the setpoint has reverted."""
        if self._deadline_s is None or now_s < self._deadline_s:
            return False
        self._deadline_s = None
        self.enabled = self.revert_enabled
        if self.revert_value is not None:
            self.value = self.revert_value
        self._ramp_end_s = now_s
        self.reversions += 1
        return True

    def effective(self, now_s: float) -> float:
        """The value in force now; while disabled it is the initial value."""
        if not self.enabled:
            return self.initial_value
        if now_s >= self._ramp_end_s:
            return self.value
        done = (now_s - self._ramp_start_s) / (self._ramp_end_s - self._ramp_start_s)
        return self._ramp_from + (self.value - self._ramp_from) * done

    def remaining_s(self, now_s: float) -> float:
        """Seconds until the timer runs out, 0 while it does not run."""
        return 0.0 if self._deadline_s is None else max(self._deadline_s - now_s, 0.0)
