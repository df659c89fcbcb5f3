"""A plan that may be used, and the messages in which others are told of it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from edge.policy import PlanView
from protocols.messages import AnyMessage, FlexibilityDeclaration, Forecast, Plan
from protocols.signing import Sequencer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edge.forecast import QuantileForecast
    from edge.schedule.flexibility import Flexibility
    from edge.schedule.model import Household, ScheduleInputs
    from edge.schedule.planner import Plan as SolvedPlan

PUBLISHED_LEVELS = (0.1, 0.5, 0.9)


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that may be used: what the control cycle needs, and what others are told."""

    view: PlanView
    household: Household
    inputs: ScheduleInputs
    solved: SolvedPlan
    flexibility: Flexibility
    load: QuantileForecast
    pv: QuantileForecast | None
    publish_forecasts: bool

    def messages(self, sender: str, now_s: float, sequencer: Sequencer) -> Iterator[tuple[str, AnyMessage]]:
        """The messages of this plan, by topic kind."""
        schedule = self.solved.schedule
        yield (
            "plan",
            Plan(
                sender=sender,
                time_s=now_s,
                sequence=sequencer.next(),
                start_s=schedule.start_s,
                step_s=schedule.step_s,
                net_import_w=tuple(_rounded(schedule.net_import_w)),
                soc_frac=None,
                made_by=self.solved.made_by,
            ),
        )
        flexibility = self.flexibility
        yield (
            "flexibility",
            FlexibilityDeclaration(
                sender=sender,
                time_s=now_s,
                sequence=sequencer.next(),
                start_s=flexibility.start_s,
                increase_w=round(flexibility.increase_w, 1),
                decrease_w=round(flexibility.decrease_w, 1),
                increase_duration_s=flexibility.increase_duration_s,
                decrease_duration_s=flexibility.decrease_duration_s,
                availability_frac=flexibility.availability_frac,
            ),
        )
        if not self.publish_forecasts:
            return
        for quantity, forecast in (("load", self.load), ("pv", self.pv)):
            if forecast is not None:
                yield "forecast", _forecast_message(quantity, forecast, sender, now_s, sequencer.next())


def _forecast_message(quantity: str, forecast: QuantileForecast, sender: str, now_s: float, sequence: int) -> Forecast:
    rows = [forecast.at_level(level) for level in PUBLISHED_LEVELS]
    sign = -1.0 if quantity == "pv" else 1.0
    if quantity == "pv":
        rows.reverse()
    coverage = [item.measured_frac for item in forecast.measured_coverage if math.isclose(item.nominal_frac, 0.8)]
    return Forecast(
        sender=sender,
        time_s=now_s,
        sequence=sequence,
        quantity="pv" if quantity == "pv" else "load",
        start_s=float(forecast.times_s[0]),
        step_s=forecast.step_s,
        levels=PUBLISHED_LEVELS,
        values_w=tuple(tuple(_rounded(sign * row)) for row in rows),
        measured_coverage=coverage[0] if coverage else None,
    )


def _rounded(values_w: npt.NDArray[np.float64]) -> list[float]:
    return [float(round(value_w, 1)) + 0.0 for value_w in values_w.tolist()]
