"""How good the forecasts were: pending targets, the conformal calibration of each model, measured coverage, and which model is
better.

A few lead times of every internal issue are kept until their slots close. Then, if something was measured, each model's quantiles
are scored, its calibration learns, and the calibrated forecast that would have been published counts towards the measured
coverage.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

from edge.forecast.conformal import OnlineConformal
from edge.forecast.values import Coverage

Floats = npt.NDArray[np.float64]
BUCKET_ENDS_S: Floats = np.array([1.0, 3.0, 6.0, 12.0, 24.0, 48.0]) * 3600.0
"""Lead-time classes: up to 1 h, 3 h, 6 h, 12 h, 24 h and beyond."""
MODELS = ("quantiles", "regression")
ADVANTAGE = 0.99
"""The regression is published once its pinball loss is below this share of the other's."""


class PendingTarget(msgspec.Struct, frozen=True, kw_only=True):
    """One slot for which `base` (models, levels) was forecast; NaN rows for models that did not take part."""

    bucket: int
    base: Floats
    scale: float
    published: int


class Scoreboard:
    def __init__(self, levels: Floats, step_s: int, window_days: int, issue_every: int, aci_rate: float, calibrate: bool = True) -> None:
        self._calibrate = calibrate
        self.levels = levels
        self.leads, self.buckets = _sampled_leads(step_s)
        per_bucket = math.ceil(window_days * 86_400 / step_s / issue_every) * 2
        self.calibrations = tuple(OnlineConformal(levels, len(BUCKET_ENDS_S), per_bucket, aci_rate) for _ in MODELS)
        self.pairs = [(low, len(levels) - 1 - low) for low in range(len(levels) // 2)]
        self.hits: npt.NDArray[np.int8] = np.full((per_bucket * len(BUCKET_ENDS_S), len(self.pairs)), -1, dtype=np.int8)
        self.scored = 0
        self.loss: Floats = np.zeros(len(MODELS))
        self.loss_count = 0.0
        self._forget = 1.0 - 1.0 / len(self.hits)
        self._pending: dict[int, list[PendingTarget]] = {}

    def expect(self, slots: npt.NDArray[np.int64], base: Floats, scale: Floats, published: int) -> None:
        """An issue: forecasts `base` (models, levels, leads) for `slots`, in the order of `leads`."""
        for index, slot in enumerate(slots.tolist()):
            target = PendingTarget(bucket=int(self.buckets[index]), base=base[:, :, index], scale=float(scale[index]), published=published)
            self._pending.setdefault(slot, []).append(target)

    def close(self, slot: int, observed: float) -> None:
        """The slot is over; NaN where nothing was measured or nothing could happen (a PV system at night)."""
        targets = self._pending.pop(slot, ())
        if not math.isfinite(observed):
            return
        for target in targets:
            models = [model for model in range(len(MODELS)) if not math.isnan(target.base[model, 0])]
            calibrated = {model: self.calibrated(model, target.bucket, target.base[model], target.scale) for model in models}
            self._count(calibrated[target.published], observed)
            if len(models) == len(MODELS):
                losses = [float(pinball(quantiles, observed, self.levels).mean()) for quantiles in calibrated.values()]
                self.loss = self._forget * self.loss + np.array(losses)
                self.loss_count = self._forget * self.loss_count + 1.0
            if self._calibrate:
                for model in models:
                    self.calibrations[model].record(target.bucket, target.base[model], target.scale, observed)

    def forget_pending(self) -> None:
        self._pending.clear()

    def calibrated(self, model: int, bucket: int, quantiles: Floats, scale: float) -> Floats:
        moved = quantiles + self.calibrations[model].offsets[bucket] * scale
        return np.asarray(np.maximum(np.sort(moved), 0.0))

    @property
    def preferred(self) -> int:
        """The model to publish: the regression only after four days' worth of targets on which it did better."""
        enough = self.loss_count >= len(self.hits) / 7.0
        return int(enough and self.loss[1] < ADVANTAGE * self.loss[0])

    @property
    def coverage(self) -> tuple[Coverage, ...]:
        """Of the central intervals, widest first."""
        counted = min(self.scored, len(self.hits))
        held = self.hits[:counted].sum(axis=0)
        return tuple(
            Coverage(
                nominal_frac=float(self.levels[high] - self.levels[low]),
                measured_frac=float(held[index]) / counted if counted > 0 else None,
                targets=counted,
            )
            for index, (low, high) in enumerate(self.pairs)
        )

    def _count(self, quantiles: Floats, observed: float) -> None:
        self.hits[self.scored % len(self.hits)] = [quantiles[low] <= observed <= quantiles[high] for low, high in self.pairs]
        self.scored += 1


def pinball(quantiles: Floats, observed: npt.ArrayLike, levels: Floats) -> Floats:
    """Pinball loss (Koenker and Bassett 1978); `levels` broadcasts against the first axis of `quantiles`."""
    error = np.asarray(observed, dtype=np.float64) - quantiles
    tau = levels.reshape((-1,) + (1,) * (error.ndim - 1))
    return np.asarray(np.maximum(tau * error, (tau - 1.0) * error))


def _sampled_leads(step_s: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Two lead times (in slots) of each class: its middle and its end."""
    starts_s = np.concatenate(([0.0], BUCKET_ENDS_S[:-1]))
    leads, buckets = [], []
    for bucket, (start_s, end_s) in enumerate(zip(starts_s, BUCKET_ENDS_S, strict=True)):
        for lead_s in ((start_s + end_s) / 2.0, end_s):
            lead = max(int(lead_s // step_s), 1)
            if lead not in leads:
                leads.append(lead)
                buckets.append(bucket)
    return np.array(leads, dtype=np.int64), np.array(buckets, dtype=np.int64)
