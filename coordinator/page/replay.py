"""A day that has passed, from the coordinator's store: read-only, in steps, with the power flow of each step. A shell.

The means are made by the database, so a day of 200 homes is some ten thousand rows and not half a million.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from coordinator import store as tables
from coordinator.errors import StoreError
from coordinator.network.model import Network
from coordinator.page.board import without_names
from coordinator.page.diagram import Diagram
from coordinator.page.estimate import Estimator, Report
from coordinator.page.views import MIN_GROUP, Event, levels, loadings_pct
from coordinator.page.words import event_of_state
from protocols.messages import SafetyState, Status

SQLITE: Final = "sqlite:///"
READ_ONLY: Final = ("mode=ro", "mode=ro&immutable=1")
"""Beside a running coordinator its write-ahead log is read too; after it has closed the file there is none, and nobody writes."""

STEP_S: Final = 900.0
LONGEST_S: Final = 26 * 3600.0
MAX_EVENTS: Final = 300
MEANS: Final = ("net_import_w", "import_limit_w", "export_limit_w", "voltage_1_v", "voltage_2_v", "voltage_3_v")
OWN_MEANS: Final = ("net_import_w", "load_w", "pv_w", "battery_w", "ev_w", "soc_frac", "import_limit_w", "export_limit_w")

Row = dict[str, Any]
Series = list[float | None]


class Replayed(Struct, frozen=True, kw_only=True):
    """A day in steps. Lists have one entry for each step; what too few homes reported for is None."""

    start_s: float
    step_s: float
    net_import_w: Series
    import_limit_w: Series
    export_limit_w: Series
    reporting: list[int]
    levels: list[tuple[int | None, ...]]
    loading_pct: list[tuple[float | None, ...]]
    events: list[Event]
    own: dict[str, Series] | None = None


class Archive:
    """The store, opened for reading alone."""

    def __init__(self, url: str, network: Network, diagram: Diagram, estimator: Estimator) -> None:
        urls = [f"{SQLITE}file:{url.removeprefix(SQLITE)}?{how}&uri=true" for how in READ_ONLY] if url.startswith(SQLITE) else [url]
        self._engines = [sa.create_engine(read_only, poolclass=sa.pool.NullPool) for read_only in urls]
        self._network = network
        self._diagram = diagram
        self._estimator = estimator

    def span(self) -> tuple[float, float] | None:
        """Time of the first and of the last measurement; None where nothing is recorded. Raises `StoreError`."""
        column = tables.telemetry.c.time_s
        row = self._all(sa.select(sa.func.min(column).label("first"), sa.func.max(column).label("last")))[0]
        return None if row["first"] is None else (float(row["first"]), float(row["last"]))

    def day(self, start_s: float, end_s: float, *, all_of_it: bool, name: str | None) -> Replayed:
        """What is seen of [start_s, end_s): by everybody, by the household `name`, or all of it. Raises `StoreError`."""
        steps = max(int((end_s - start_s) / STEP_S), 1)
        group = 1 if all_of_it else MIN_GROUP
        said = self._means(start_s, steps)
        reports = [_reports(step) for step in said]
        enough = [len(step) >= group for step in reports]
        estimates = self._estimator.at(reports)
        shown = [None if estimates is None or not known else estimates[index] for index, known in enumerate(enough)]
        public = [levels(self._network, self._diagram, estimate) for estimate in shown]
        if not all_of_it:
            buses = self._diagram.buses
            public = [tuple(at[b.parent] if b.drop and b.parent is not None else at[i] for i, b in enumerate(buses)) for at in public]
        return Replayed(
            start_s=start_s,
            step_s=STEP_S,
            net_import_w=[_sum(step, "net_import_w") if known else None for step, known in zip(said, enough, strict=True)],
            import_limit_w=[_sum(step, "import_limit_w") if known else None for step, known in zip(said, enough, strict=True)],
            export_limit_w=[_sum(step, "export_limit_w") if known else None for step, known in zip(said, enough, strict=True)],
            reporting=[len(step) for step in reports],
            levels=public,
            loading_pct=[loadings_pct(self._diagram, estimate, group=group) for estimate in shown],
            events=self._events(start_s, end_s, all_of_it=all_of_it, name=name),
            own=None if name is None else self.own(name, start_s, start_s + steps * STEP_S, STEP_S),
        )

    def own(self, name: str, start_s: float, end_s: float, step_s: float) -> dict[str, Series]:
        """The series of one household. Raises `StoreError`."""
        table = tables.telemetry
        step = sa.cast((table.c.start_s - start_s) / step_s, sa.Integer).label("step")
        means = [sa.func.avg(table.c[column]).label(column) for column in OWN_MEANS]
        query = sa.select(step, *means).where(table.c.node == name, table.c.start_s >= start_s, table.c.start_s < end_s).group_by(step)
        count = max(int((end_s - start_s) / step_s), 1)
        series: dict[str, Series] = {column: [None] * count for column in OWN_MEANS}
        for row in self._all(query):
            if 0 <= row["step"] < count:
                for column in OWN_MEANS:
                    value = row[column]
                    series[column][row["step"]] = None if value is None else round(value, 3)
        return series

    def close(self) -> None:
        """Give the connections back."""
        for engine in self._engines:
            engine.dispose()

    def _means(self, start_s: float, steps: int) -> list[dict[str, Row]]:
        table = tables.telemetry
        step = sa.cast((table.c.start_s - start_s) / STEP_S, sa.Integer).label("step")
        means = [sa.func.avg(table.c[name]).label(name) for name in MEANS]
        inside = table.c.start_s >= start_s, table.c.start_s < start_s + steps * STEP_S
        found: list[dict[str, Row]] = [{} for _ in range(steps)]
        for row in self._all(sa.select(table.c.node, step, *means).where(*inside).group_by(table.c.node, step)):
            if 0 <= row["step"] < steps and self._estimator.knows(row["node"]):
                found[row["step"]][row["node"]] = row
        return found

    def _events(self, start_s: float, end_s: float, *, all_of_it: bool, name: str | None) -> list[Event]:
        events, messages = tables.events, tables.messages
        inside = events.c.time_s >= start_s, events.c.time_s < end_s
        newest = sa.select(events).where(*inside).order_by(events.c.time_s.desc()).limit(MAX_EVENTS)
        found = [Event(time_s=row["time_s"], kind=row["kind"], text=f"{row['kind']}: {row['message']}"[:300]) for row in self._all(newest)]
        said = messages.c.kind == "status", messages.c.time_s >= start_s, messages.c.time_s < end_s
        query = sa.select(messages.c.body_json).where(*said).order_by(messages.c.time_s).limit(20 * MAX_EVENTS)
        found += _changes_of_state([row["body_json"] for row in self._all(query)])
        if not all_of_it:
            found = [event if event.who != "" and event.who == name else without_names(event) for event in found]
        return sorted(found, key=lambda event: event.time_s)[-MAX_EVENTS:]

    def _all(self, query: sa.Select[Any]) -> list[Row]:
        problem: Exception | None = None
        for engine in self._engines:
            try:
                with engine.connect() as connection:
                    return [dict(row) for row in connection.execute(query).mappings()]
            except sa.exc.SQLAlchemyError as error:
                problem = error if problem is None else problem
        text = " ".join(str(getattr(problem, "orig", problem)).split())[:200]
        raise StoreError(f"the store cannot be read: {text}") from problem


def _changes_of_state(bodies: Sequence[str]) -> list[Event]:
    last: dict[str, SafetyState] = {}
    found = []
    for body in bodies:
        status = msgspec.json.decode(body, type=Status)
        before = last.get(status.sender)
        if before is not None and before is not status.state:
            kind, words = event_of_state(status.state, status.reasons)
            found.append(Event(time_s=status.time_s, kind=kind, text=words, who=status.sender))
        last[status.sender] = status.state
    return found


def _reports(step: dict[str, Row]) -> dict[str, Report]:
    measured = {node: row for node, row in step.items() if row["net_import_w"] is not None}
    return {node: Report(net_import_w=row["net_import_w"], voltage_v=_volts(row)) for node, row in measured.items()}


def _volts(row: Row) -> tuple[float, ...]:
    return tuple(row[name] for name in MEANS[3:] if row[name] is not None)


def _sum(step: dict[str, Row], column: str) -> float | None:
    """The sum over the homes; None where one of them has none."""
    values = [row[column] for row in step.values() if row["net_import_w"] is not None]
    return None if not values or any(value is None for value in values) else round(sum(values), 1)
