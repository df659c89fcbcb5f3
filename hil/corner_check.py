"""Are the envelopes that hold now safe on the plant? At the start of each interval the bench tries the corners itself.

Where single-phase customers share a feeder the worst points are phase-mixed: all homes of one phase export what they may while those of
another import what they may. So the eight patterns of import and export over three phases are solved by the plant's own power flow, and
two more patterns drawn home by home. Reactive power follows active power as the operator assumes it, behind the source voltage of the
network's tables: that is what the certificate speaks about. The robust class promises all of them. The coincident class promises the
points at which nobody exports while others import what they may, and the other way round, so there the homes of each pattern move
together, once up and once down, and the rest stand still.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from hil.checkers import CheckResult, Tally
from hil.errors import PlantError
from hil.scenario import Scenario
from hil.world import World

Floats = npt.NDArray[np.float64]
DRAWN_PATTERNS = 2


class PublishedEnvelopesHold:
    """Checker `published_envelopes_hold`; `watch` is given the limits in force at each cycle and acts once in each interval."""

    def __init__(self, scenario: Scenario, world: World) -> None:
        self._limits = scenario.limits
        self._interval_s = scenario.coordinator.interval_s
        self._robust = scenario.coordinator.guarantee == "robust"
        self._reactive_frac = scenario.coordinator.reactive_frac
        self._world = world
        self._phase = np.array([home.phase_index[0] for home in world.homes])
        self._patterns = [np.array(pattern)[self._phase] for pattern in itertools.product((True, False), repeat=3)]
        self._rng = np.random.default_rng(0)
        self._tally = Tally("published_envelopes_hold")

    def watch(self, now_s: float, import_limit_w: Floats, export_limit_w: Floats) -> None:
        """Try the corners of the box that holds at `now_s`, once every home has an envelope."""
        if now_s % self._interval_s != 0.0:
            return
        if not (np.isfinite(import_limit_w).all() and np.isfinite(export_limit_w).all()):
            return
        drawn = [self._rng.random(len(self._phase)) < 0.5 for _ in range(DRAWN_PATTERNS)]
        for chosen in (*self._patterns, *drawn):
            if self._robust:
                self._try(now_s, np.where(chosen, import_limit_w, -export_limit_w))
            else:
                self._try(now_s, np.where(chosen, import_limit_w, 0.0))
                self._try(now_s, np.where(chosen, -export_limit_w, 0.0))

    def result(self) -> CheckResult:
        """The tally."""
        return self._tally.result()

    def _try(self, now_s: float, net_import_w: Floats) -> None:
        try:
            state = self._world.solve_for(net_import_w, self._reactive_frac * net_import_w)
        except PlantError as error:
            self._tally.violated(f"at {now_s:.0f} s: {error}")
            return
        limits = self._limits
        lowest_v, highest_v = float(np.nanmin(state.voltage_v)), float(np.nanmax(state.voltage_v))
        transformer, line = float(state.transformer_loading.max()), float(state.line_loading.max())
        legal = (
            lowest_v >= limits.voltage_min_v
            and highest_v <= limits.voltage_max_v
            and transformer <= limits.transformer_frac
            and line <= limits.line_frac
        )
        if legal:
            self._tally.passed()
        else:
            self._tally.violated(
                f"at {now_s:.0f} s a corner of the box reaches {lowest_v:.2f} to {highest_v:.2f} V, transformer "
                f"{100.0 * transformer:.1f} %, line {100.0 * line:.1f} %"
            )
