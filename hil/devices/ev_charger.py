"""The physics of a simulated EV charger; the register maps of vendors are in `ev_charger_maps`.

States follow IEC 61851-1: A no vehicle, B vehicle connected, C charging. A vehicle charges with the smallest of the current that it is
offered, its own limit and the charger's, on all phases of the charger, and not at all below 6 A, the smallest current that IEC 61851-1
can offer. It takes `start_delay_s` to begin, follows changes with a lag of a few seconds, and stops when it has what it wanted.

When the charger hears nothing for `watchdog_s` it falls back to `failsafe_a` until the next command, as chargers with a communication
timeout do; some count every request, some only commands (`command_only_watchdog`). A watchdog of 0 s is off.
"""

from hil.devices.control import Lag
from hil.devices.device import Inputs, SimulatedDevice
from hil.devices.quirks import Quirks

SMALLEST_CURRENT_A = 6.0
VEHICLE_LAG_S = 2.0
START_DELAY_S = 3.0


class EvCharger(SimulatedDevice):
    """See the module; `limit_a` is the current that the controller asked for, per phase."""

    kind = "ev_charger"
    command_only_watchdog = False
    starts_in_failsafe = False
    default_watchdog_s = 0.0

    def __init__(
        self,
        name: str,
        *,
        max_a: float = 32.0,
        vehicle_max_a: float = 32.0,
        unit: int = 1,
        phases: int = 1,
        watchdog_s: float | None = None,
        failsafe_a: float = 6.0,
        default_a: float | None = None,
        lag_s: float = VEHICLE_LAG_S,
        start_delay_s: float = START_DELAY_S,
        quirks: Quirks | None = None,
    ) -> None:
        self.max_a = max_a
        self.vehicle_max_a = vehicle_max_a
        self.default_a = max_a if default_a is None else default_a
        self.limit_a = self.default_a
        self.enabled = True
        self.watchdog_s = self.default_watchdog_s if watchdog_s is None else watchdog_s
        self.failsafe_a = failsafe_a
        self.initial_watchdog = (self.watchdog_s, failsafe_a)
        self.in_failsafe = self.starts_in_failsafe
        self.plugged = False
        self.requested_wh = 0.0
        self.session_wh = 0.0
        self.current_a = 0.0
        self.last_heard_s = 0.0
        self._lag = Lag(lag_s)
        self._start_delay_s = start_delay_s
        self._start_at_s: float | None = None
        super().__init__(name, unit=unit, phases=phases, quirks=quirks)

    @property
    def rated_w(self) -> float:
        """The largest draw at nominal voltage."""
        return self.max_a * 230.0 * self.phases

    @property
    def charging(self) -> bool:
        """State C."""
        return self.power_w > 0.0

    @property
    def mode3(self) -> str:
        """The state in the finer words of IEC 61851-1: x1 without, x2 with a current offered."""
        if not self.online:
            return "F"
        if not self.plugged:
            return "A"
        if self.charging:
            return "C2"
        return "B2" if self.offered_a > 0.0 else "B1"

    @property
    def validity_left_s(self) -> float:
        """How long the last command still holds; 0 in failsafe and without a watchdog."""
        if self.in_failsafe or self.watchdog_s <= 0.0:
            return 0.0
        return max(self.last_heard_s + self.watchdog_s - self.now_s, 0.0)

    @property
    def offered_a(self) -> float:
        """The current offered to the vehicle now, 0 where it is below the smallest that can be offered."""
        if not self.enabled and self.obeys:
            return 0.0
        wanted_a = self.limit_a if self.obeys else self.max_a
        if self.in_failsafe:
            wanted_a = min(wanted_a, self.failsafe_a)
        wanted_a = min(wanted_a, self.max_a)
        return 0.0 if wanted_a < SMALLEST_CURRENT_A else wanted_a

    def command_a(self, limit_a: float) -> None:
        """A new current limit from the controller; it ends the failsafe."""
        self.limit_a = min(max(limit_a, 0.0), self.max_a)
        self.in_failsafe = False
        self.last_heard_s = self.now_s

    def heard(self) -> None:
        """A request has arrived; the watchdog starts again unless it waits for a command."""
        if not self.command_only_watchdog:
            self.last_heard_s = self.now_s

    def forget_setpoints(self) -> None:
        """Back to the default current and the watchdog as installed."""
        self.limit_a = self.default_a
        self.enabled = True
        self.in_failsafe = self.starts_in_failsafe
        self.watchdog_s, self.failsafe_a = self.initial_watchdog

    def foreign_setpoint(self, share: float) -> None:
        """Somebody else sets the current."""
        self.limit_a = share * self.max_a
        self.enabled = True

    def _step(self, end_s: float, dt_s: float, inputs: Inputs) -> None:
        self._follow_vehicle(inputs)
        if self.watchdog_s > 0.0 and end_s - self.last_heard_s >= self.watchdog_s:
            self.in_failsafe = True
        target_a = self._target_a(end_s)
        current_a = self._lag.step(target_a, dt_s) if target_a > 0.0 else 0.0
        if target_a <= 0.0:
            self._lag.value = 0.0
        power_w = current_a * sum(self.voltage_v)
        left_wh = self.requested_wh - self.session_wh
        if power_w * dt_s / 3600.0 > left_wh:
            power_w = max(left_wh, 0.0) * 3600.0 / dt_s
            current_a = power_w / sum(self.voltage_v)
        self.power_w = power_w
        self.current_a = current_a
        self.session_wh += power_w * dt_s / 3600.0

    def _follow_vehicle(self, inputs: Inputs) -> None:
        if inputs.plugged and not self.plugged:
            self.requested_wh = inputs.requested_wh
            self.session_wh = 0.0
        if not inputs.plugged:
            self._start_at_s = None
        self.plugged = inputs.plugged

    def _target_a(self, end_s: float) -> float:
        """What the vehicle wants to draw now, after the delay with which it begins."""
        wants = self.plugged and self.online and self.session_wh < self.requested_wh
        offered_a = self.offered_a if wants else 0.0
        if offered_a <= 0.0:
            self._start_at_s = None
            return 0.0
        if self._start_at_s is None:
            self._start_at_s = end_s + self._start_delay_s
        if end_s < self._start_at_s:
            return 0.0
        return min(offered_a, self.vehicle_max_a)
