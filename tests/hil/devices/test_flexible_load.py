"""A controllable load of the bench while its controller restarts."""

from __future__ import annotations

from hil.devices.device import Inputs
from hil.devices.faults import Fault, FaultKind, FaultPlan
from hil.flexible_load import FlexibleLoad


def test_a_load_without_control_power_draws_nothing_and_comes_back_unlimited() -> None:
    tank = FlexibleLoad("tank", rated_w=3600.0)
    tank.apply_faults(FaultPlan(faults=(Fault(kind=FaultKind.REBOOT, start_s=10.0, duration_s=20.0),)))
    tank.limit_w = 1000.0
    drawn_w = []
    for begin_s in (0.0, 10.0, 20.0, 30.0):
        tank.advance(begin_s, 10.0, Inputs(voltage_v=(230.0,), demand_w=3600.0))
        drawn_w.append(tank.power_w)
    assert drawn_w[1] == 0.0, "the contactor has dropped out"
    assert drawn_w[-1] == 3600.0, "the setpoint is forgotten"
