"""How often net import really stays inside margins: Monte-Carlo draws of skewed and heavy-tailed errors against every kind of margin.

Every kind is given the mean and variance of the errors (or 2,000 earlier draws of them) and is then judged on fresh draws. What counts is
the worst of both directions and all communities and hours; sampling noise of the count itself is allowed for at four standard deviations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from coordinator.mechanisms.dfe.uncertainty import Uncertainty, margins_w
from hil.studies.dfe69_case import BUSES, SAMPLES, DfeCase, FloatArray
from hil.studies.result import Row

CONFIDENCES = (0.8, 0.9, 0.95, 0.99)
DRAWS = 20_000
Draw = Callable[[np.random.Generator, tuple[int, ...]], FloatArray]


def _lognormal(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """Skewed to the right, mean 0 and variance 1."""
    values = rng.lognormal(0.0, 0.6, shape)
    variance = float(np.expm1(0.36) * np.exp(0.36))
    return np.asarray((values - np.exp(0.18)) / np.sqrt(variance))


def _student(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """Heavy tails: Student's t with three degrees of freedom, variance 1."""
    return np.asarray(rng.standard_t(3.0, shape) / np.sqrt(3.0))


SHAPES: Mapping[str, Draw] = {"skewed": _lognormal, "heavy-tailed": _student}
# What does not assume a distribution must hold for all; a normal one need not.
HOLDS_FOR_ALL = (Uncertainty.UNIMODAL, Uncertainty.CANTELLI, Uncertainty.SAMPLES)


def coverage_rows(case: DfeCase, seed: int) -> list[Row]:
    """The most frequent excursion in one direction, as a share of what the confidence allows."""
    rows = []
    for kind in Uncertainty:
        for name, draw in SHAPES.items():
            shares = {confidence: excursions(case, kind, confidence, draw, seed) for confidence in CONFIDENCES}
            worst = max(shares, key=lambda confidence: shares[confidence] / (1.0 - confidence))
            demanded = kind in HOLDS_FOR_ALL
            rows.append(
                Row(
                    quantity=f"excursions over allowed ones, {kind} margins, {name} errors",
                    ours=shares[worst] / (1.0 - worst),
                    target="<= 1 within counting noise" if demanded else "",
                    met=all(share <= allowed(confidence) for confidence, share in shares.items()) if demanded else None,
                    note=", ".join(f"{100 * confidence:g} %: {100 * (1 - shares[confidence]):.2f} % inside" for confidence in CONFIDENCES),
                )
            )
    return rows


def allowed(confidence_frac: float) -> float:
    """The share of excursions that a confidence allows, with the noise of counting them."""
    tail = 1.0 - confidence_frac
    return tail + 4.0 * float(np.sqrt(tail * confidence_frac / DRAWS))


def excursions(case: DfeCase, kind: Uncertainty, confidence_frac: float, draw: Draw, seed: int) -> float:
    """The largest share of fresh errors beyond a margin, over communities, hours and both directions."""
    worst = 0.0
    for place in range(len(BUSES)):
        rng = np.random.default_rng((seed, place, 69))
        deviation = case.deviation_w(place)[:, None]
        above, below = margins_w(kind, confidence_frac, deviation * draw(rng, (deviation.size, SAMPLES)))
        fresh = deviation * draw(rng, (deviation.size, DRAWS))
        worst = max(worst, float((fresh > above[:, None]).mean(axis=1).max()), float((fresh < -below[:, None]).mean(axis=1).max()))
    return worst
