"""How far a community's net import may stray from its plan, at a chosen confidence.

With e = 1 - confidence the probability of straying further in one direction, the margin is z times the standard deviation:

* GAUSSIAN: z = Phi^-1(1 - e). True for normal errors only.
* UNIMODAL: z = sqrt(4 / (9 e) - 1) for e <= 1/6, else sqrt(3 (1 - e) / (1 + 3 e)): holds for every unimodal distribution of that mean
  and variance (one-sided Vysochanskij-Petunin inequality).
* CANTELLI: z = sqrt((1 - e) / e): holds for every distribution of that mean and variance (Cantelli's inequality).
* SAMPLES: an order statistic of observed errors. With S samples the k largest are discarded, k being the largest number with
  P(Binomial(S, e) <= k) <= 1 - certainty (M. C. Campi and S. Garatti, A sampling-and-discarding approach to chance-constrained
  optimization, J. Optim. Theory Appl. 148, 2011, for one decision).
"""

from __future__ import annotations

import enum
import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from coordinator.mechanisms.conversation import ConversationError

FloatArray = NDArray[np.float64]

CERTAINTY = 0.99
UNIMODAL_TAIL = 1.0 / 6.0


class Uncertainty(enum.StrEnum):
    """What is assumed of forecast errors."""

    GAUSSIAN = "gaussian"
    UNIMODAL = "unimodal"
    CANTELLI = "cantelli"
    SAMPLES = "samples"


def deviations(assumed: Uncertainty, confidence_frac: float) -> float:
    """How many standard deviations the margin is."""
    _require_confidence(confidence_frac)
    tail = 1.0 - confidence_frac
    if assumed is Uncertainty.GAUSSIAN:
        return float(stats.norm.ppf(confidence_frac))
    if assumed is Uncertainty.CANTELLI:
        return math.sqrt(confidence_frac / tail)
    if assumed is Uncertainty.UNIMODAL:
        if tail <= UNIMODAL_TAIL:
            return math.sqrt(4.0 / (9.0 * tail) - 1.0)
        return math.sqrt(3.0 * confidence_frac / (4.0 - 3.0 * confidence_frac))
    raise ConversationError("a margin from samples is an order statistic, not a number of standard deviations")


def discarded(samples: int, confidence_frac: float) -> int:
    """How many of the largest samples may be left out; ConversationError where there are too few samples to say anything."""
    _require_confidence(confidence_frac)
    tail = 1.0 - confidence_frac
    allowed = int(stats.binom.ppf(1.0 - CERTAINTY, samples, tail))
    while allowed >= 0 and stats.binom.cdf(allowed, samples, tail) > 1.0 - CERTAINTY:
        allowed -= 1
    if allowed < 0:
        needed = math.ceil(math.log(1.0 - CERTAINTY) / math.log(confidence_frac))
        raise ConversationError(f"{samples} samples say nothing at confidence {confidence_frac:g}: at least {needed} are needed")
    return allowed


def margins_w(assumed: Uncertainty, confidence_frac: float, error_w: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Margins above and below a plan (T,), from observed errors of net import (T, samples), positive where more was imported."""
    if error_w.ndim != 2 or error_w.shape[1] < 2 or not np.isfinite(error_w).all():
        raise ConversationError(f"errors have shape {error_w.shape}, expected finite ones of (intervals, samples)")
    if assumed is not Uncertainty.SAMPLES:
        margin, mean = deviations(assumed, confidence_frac) * error_w.std(axis=1, ddof=1), error_w.mean(axis=1)
        return (margin + mean).clip(min=0.0), (margin - mean).clip(min=0.0)
    ordered = np.sort(error_w, axis=1)
    left_out = discarded(error_w.shape[1], confidence_frac)
    return ordered[:, -1 - left_out].clip(min=0.0), (-ordered[:, left_out]).clip(min=0.0)


def _require_confidence(confidence_frac: float) -> None:
    if not 0.5 <= confidence_frac < 1.0:
        raise ConversationError(f"confidence is {confidence_frac}, expected at least 0.5 and below 1")
