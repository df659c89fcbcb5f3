"""The forecaster of one quantity of one household: what was measured goes in, quantiles with measured coverage come out.

Method (measured on real homes: `python -m hil.households.forecast_study`): quantiles of the last 28 days per time of day, carried
along by the level of the last hours; from 60 days on a linear quantile regression, trained here in small portions, is scored
beside them and published where it is better; whichever is published is calibrated online. No clock, no random numbers, no files.

PV is forecast as an index, the power over the clear-sky envelope of its place, so that season and sunset need no learning and
nights are exactly zero. Feed it what the panels *could* give: while the inverter is curtailed, pass NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from edge.forecast.clearsky import clear_sky_frac
from edge.forecast.features import DayMatrix
from edge.forecast.history import DAY_S, SlotHistory
from edge.forecast.prior import load_prior, pv_prior
from edge.forecast.quantiles import MEDIAN, SCORE_STEP, WINDOW_DAYS, SeasonalQuantiles
from edge.forecast.recent import RecentLevel
from edge.forecast.regression import QuantileRegressionFit
from edge.forecast.scoreboard import BUCKET_ENDS_S, MODELS, Scoreboard
from edge.forecast.values import LEVELS, QuantileForecast

Floats = npt.NDArray[np.float64]
Slots = npt.NDArray[np.int64]

HISTORY_DAYS = 70
REGRESSION_DAYS = 60
TWILIGHT_FRAC = 0.015
"""Below this share of full sun a slot is night: nothing is forecast, learned or counted there."""
WIDE = round(1.25 / SCORE_STEP)


class Forecaster:
    """Means over `step_s` inside; `forecast` answers on any grid. `typical_day_wh` scales the load prior, `rated_w` bounds
    everything.

    `utc_offset_s` says which hours people's clocks show (weekends, load prior). `latitude_deg` and `longitude_deg` are required
    for PV. `calibrate` and `aci_rate` are there for studies: without them the quantiles are published as the model gives them.
    """

    def __init__(
        self,
        kind: Literal["pv", "load"],
        rated_w: float,
        *,
        step_s: int = 900,
        latitude_deg: float | None = None,
        longitude_deg: float | None = None,
        utc_offset_s: float = 0.0,
        typical_day_wh: float = 10_000.0,
        levels: Sequence[float] = LEVELS,
        calibrate: bool = True,
        aci_rate: float = 0.01,
        regression_days: int = REGRESSION_DAYS,
    ) -> None:
        if kind == "pv" and (latitude_deg is None or longitude_deg is None):
            raise ValueError("a PV forecaster needs latitude_deg and longitude_deg")
        self.kind = kind
        self.rated_w = rated_w
        self.levels: Floats = np.asarray(levels, dtype=np.float64)
        self._place = None if latitude_deg is None or longitude_deg is None else (latitude_deg, longitude_deg)
        self._utc_offset_s = utc_offset_s
        self._level_scores = _normal_scores(self.levels)
        self.history = SlotHistory(step_s, HISTORY_DAYS)
        per_day = self.history.per_day
        prior = pv_prior(per_day) if kind == "pv" else load_prior(per_day, utc_offset_s, typical_day_wh, rated_w)
        self.seasonal = SeasonalQuantiles(prior, pool=1 if step_s <= 1800 else 0)
        self.recent = RecentLevel(step_s)
        self._issue_every = _coprime_above(round(9000 / step_s), per_day)
        self.scoreboard = Scoreboard(self.levels, step_s, WINDOW_DAYS, self._issue_every, aci_rate, calibrate)
        self._floor = 0.02 * (typical_day_wh / 24.0 if kind == "load" else 1.0)
        self._regression_days = regression_days
        self.weights: Floats | None = None
        self._matrix: DayMatrix | None = None
        self._fit: QuantileRegressionFit | None = None
        self.fitted_day: int | None = None
        self._envelope_day: int | None = None
        self._envelope: Floats = np.ones(per_day)

    def observe(self, time_s: float, mean_power_w: float) -> None:
        """Take the mean power (a magnitude) of an interval that contains `time_s`; NaN where it is not known.

        Call it as often as wanted, in order of time: samples of one slot are averaged. Late samples are dropped, gaps are gaps.
        """
        envelope_w = 1.0
        if self.kind == "pv" and math.isfinite(mean_power_w):
            self._keep_envelope(time_s)
            envelope_w = float(self._envelope[int(time_s // self.history.step_s) % self.history.per_day])
        value = max(mean_power_w, 0.0) / envelope_w if envelope_w > 0.0 else math.nan
        for slot in self.history.add(time_s, value):
            self._close(slot)
        if self.history.open_slot == self.history.first_slot:
            self.scoreboard.forget_pending()
            self.seasonal.touch_all()
            self._matrix = None

    def warm_start(self, start_s: float, step_s: float, mean_powers_w: npt.ArrayLike, *, calibrate_days: float = 7.0) -> None:
        """Take a whole history at once: means over `step_s` from `start_s` on, oldest first, on slot boundaries or finer.

        All but the last `calibrate_days` are only learned; the last days are replayed, so that calibration and coverage exist.
        """
        means_w = np.asarray(mean_powers_w, dtype=np.float64)
        slot_s = self.history.step_s
        replay_from = max(len(means_w) - round(calibrate_days * DAY_S / step_s), 0)
        per_slot = round(slot_s / step_s)
        first_slot = math.ceil(start_s / slot_s)
        skip = round((first_slot * slot_s - start_s) / step_s)
        if per_slot >= 1 and math.isclose(per_slot * step_s, slot_s) and replay_from - skip >= per_slot:
            count = (replay_from - skip) // per_slot
            known = means_w[skip : skip + count * per_slot].reshape(count, per_slot)
            slots = first_slot + np.arange(count)
            values = np.maximum(known.mean(axis=1), 0.0) / self._envelopes(slots)
            self.history.load(first_slot, values)
            self.seasonal.touch_all()
            self.seasonal.refresh(self.history)
            learned = slice(max(count - WINDOW_DAYS * self.history.per_day, 0), None)
            self.recent.load(self.seasonal.scores(slots[learned] % self.history.per_day, values[learned]))
            replay_from = skip + count * per_slot
        for index in range(replay_from, len(means_w)):
            self.observe(start_s + index * step_s, float(means_w[index]))

    def forecast(self, now_s: float, step_s: float, steps: int) -> QuantileForecast:
        """Quantiles of the mean over [now_s + k step_s, now_s + (k + 1) step_s), k = 0 .. steps - 1."""
        slot_s = self.history.step_s
        parts = max(round(step_s / slot_s), 1)
        middles_s = now_s + (np.arange(steps * parts) + 0.5) * (step_s / parts)
        slots = np.floor(middles_s / slot_s).astype(np.int64)
        self.seasonal.refresh(self.history)
        model = self.scoreboard.preferred if self.weights is not None else 0
        base, scale, leads_s = self._base(slots, model)
        buckets = np.minimum(np.searchsorted(BUCKET_ENDS_S, leads_s), len(BUCKET_ENDS_S) - 1)
        values = base + self.scoreboard.calibrations[model].offsets[buckets].T * scale
        values.sort(axis=0)
        if self.kind == "pv":
            self._keep_envelope(now_s)
            values *= np.nan_to_num(self._envelope)[slots % self.history.per_day]
        values = np.clip(values, 0.0, self.rated_w)
        if parts > 1:
            values = values.reshape(len(self.levels), steps, parts).mean(axis=2)
        return QuantileForecast(
            issued_s=now_s,
            step_s=step_s,
            times_s=now_s + step_s * np.arange(steps, dtype=np.float64),
            levels=self.levels,
            values_w=values,
            measured_coverage=self.scoreboard.coverage,
            method=MODELS[model] if self.history.open_slot is not None else "prior",
        )

    def train(self) -> bool:
        """One small portion of training, if the regression is due (daily, from `regression_days` on); True while there is more to
        do.
        """
        open_slot, first_slot = self.history.open_slot, self.history.first_slot
        if open_slot is None or first_slot is None:
            return False
        day = open_slot // self.history.per_day
        if self._fit is None:
            if open_slot - first_slot < self._regression_days * self.history.per_day or day == self.fitted_day:
                return False
            self.fitted_day = day
            self._fit = self._prepare_fit()
            return self._fit is not None
        if self._fit.advance():
            self.weights, self._fit = self._fit.weights, None
        return self._fit is not None

    def _close(self, slot: int) -> None:
        column = slot % self.history.per_day
        value = float(self.history.values[slot // self.history.per_day % self.history.days, column])
        self.seasonal.touch(column)
        known = math.isfinite(value)
        self.recent.observe(self.seasonal.score(column, value) if known else None)
        if self._matrix is not None:
            if slot // self.history.per_day == self._matrix.last_day:
                self._matrix.extend(slot, value)
            else:
                self._matrix = None
        self.scoreboard.close(slot, value)
        if (slot + 1) % self._issue_every == 0:
            self._issue(slot + 1)

    def _issue(self, open_slot: int) -> None:
        """Keep a few lead times of what would be published now, to be scored when they have happened."""
        self.seasonal.refresh(self.history)
        slots = open_slot - 1 + self.scoreboard.leads
        base = np.full((len(MODELS), len(self.levels), len(slots)), np.nan)
        base[0], scale, _ = self._base(slots, 0)
        if self.weights is not None:
            base[1] = self._base(slots, 1)[0]
        published = self.scoreboard.preferred if self.weights is not None else 0
        self.scoreboard.expect(slots, base, scale, published)

    def _base(self, slots: Slots, model: int) -> tuple[Floats, Floats, Floats]:
        """Quantiles before calibration, (levels, len(slots)), in W or as index; their scale; and the lead times."""
        open_slot = self.history.open_slot if self.history.open_slot is not None else int(slots[0])
        columns = slots % self.history.per_day
        leads_s = np.maximum(slots - open_slot + 1, 1) * float(self.history.step_s)
        table = self.seasonal.table
        scale = table[columns, MEDIAN + WIDE] - table[columns, MEDIAN - WIDE] + self._floor
        if model == 1 and self.weights is not None:
            features = self._day_matrix().features(np.array([open_slot]), slots, self._utc_offset_s)
            base = (np.nan_to_num(features) @ self.weights).T
        else:
            mean, spread = self.recent.conditional(leads_s)
            base = self.seasonal.values(columns, mean + self._level_scores[:, None] * spread)
        return base, scale, leads_s

    def _day_matrix(self) -> DayMatrix:
        if self._matrix is None:
            self._matrix = DayMatrix(self.history)
        return self._matrix

    def _prepare_fit(self) -> QuantileRegressionFit | None:
        """Samples at the scoreboard's lead times from all issues after the first 28 days of the ring."""
        matrix = self._day_matrix()
        open_slot = self.history.open_slot
        assert open_slot is not None
        first = (matrix.first_day + WINDOW_DAYS + 2) * self.history.per_day
        issues = np.arange(first, open_slot, self._issue_every)
        targets = issues[:, None] - 1 + self.scoreboard.leads
        issue_of = np.broadcast_to(issues[:, None], targets.shape).ravel()
        x = matrix.features(issue_of, targets.ravel(), self._utc_offset_s)
        y = self.history.at(targets.ravel()).astype(np.float64)
        usable = np.isfinite(y) & np.isfinite(x).all(axis=1)
        if usable.sum() < 50 * x.shape[1]:
            return None
        return QuantileRegressionFit(x[usable], y[usable], self.levels)

    def _keep_envelope(self, time_s: float) -> None:
        """The clear-sky envelope of one UTC day serves for two: it changes by less than a percent."""
        day = int(time_s // DAY_S)
        if day != self._envelope_day:
            self._envelope_day = day
            self._envelope = self._envelopes(day * self.history.per_day + np.arange(self.history.per_day))

    def _envelopes(self, slots: Slots) -> Floats:
        """What one unit of the index is in W; NaN at night. 1 for load."""
        if self._place is None or self.kind == "load":
            return np.ones(len(slots))
        frac = clear_sky_frac((slots.astype(np.float64) + 0.5) * self.history.step_s, *self._place)
        return np.where(frac >= TWILIGHT_FRAC, frac * self.rated_w, np.nan)


def _normal_scores(levels: Floats) -> Floats:
    """Inverse of the standard normal distribution function, by bisection (used once, at construction)."""
    low, high = np.full(len(levels), -8.0), np.full(len(levels), 8.0)
    for _ in range(60):
        middle = (low + high) / 2.0
        below = np.array([0.5 * (1.0 + math.erf(score / math.sqrt(2.0))) for score in middle]) < levels
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((low + high) / 2.0)


def _coprime_above(minimum: int, per_day: int) -> int:
    """Issues every so many slots walk over all times of the day."""
    candidate = max(minimum, 1)
    while math.gcd(candidate, per_day) != 1:
        candidate += 1
    return candidate
