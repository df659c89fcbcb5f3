"""When a household plans anew, and which plan is in use: at the end of a control cycle, or in a thread beside it. A shell."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge.config import ScheduleSection
from edge.made_plan import Made
from edge.planning import LimitsAt, PlanMaker
from edge.policy import PlanView
from edge.watch import DeviceWatch

if TYPE_CHECKING:
    from edge.agreement import Agreement

log = logging.getLogger(__name__)


class Replanner:
    """`plan` is the one in use; it begins with what the disk remembers. `background` plans in a thread."""

    def __init__(self, maker: PlanMaker, schedule: ScheduleSection, plan: PlanView | None, *, background: bool) -> None:
        self.plan = plan
        self._maker = maker
        self._schedule = schedule
        self._background = background
        self._due_s = -float("inf")
        self._job: asyncio.Future[Made | None] | None = None

    @property
    def until_s(self) -> float | None:
        """The end of the plan in use."""
        plan = self.plan
        return None if plan is None else plan.start_s + plan.step_s * len(plan.net_import_w)

    def step(
        self, now_s: float, watches: Sequence[DeviceWatch], base_w: float | None, limits_at: LimitsAt, agreement: Agreement | None
    ) -> Made | None:
        """Count one cycle and plan when it is time; returns the plan that is new in this cycle."""
        maker = self._maker
        maker.observe(now_s, watches, base_w)
        if self._job is not None:
            if not self._job.done():
                return None
            done, self._job, maker.busy = self._job, None, False
            return self._use(done.result())
        if not self._schedule.enabled or now_s < self._due_s:
            return None
        self._due_s = (now_s // self._schedule.period_s + 1.0) * self._schedule.period_s
        job = maker.prepare(now_s, watches, limits_at, agreement)
        if not self._background:
            return self._use(job.run())
        maker.busy = True
        self._job = asyncio.get_running_loop().run_in_executor(None, job.run)
        return None

    def _use(self, made: Made | None) -> Made | None:
        if made is None:
            log.warning("no plan: %s", self._maker.refusal)
        else:
            self.plan = made.view
        return made
