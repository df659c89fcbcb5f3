"""Figures for Prometheus: declared as data, kept by prometheus_client, read by a scrape. A book has no socket and no clock.

Names follow the conventions of Prometheus: one prefix, base units as suffix, `_total` on counters, `_info` on facts, `_ratio` from 0 to 1,
`_timestamp_seconds` on Unix times. `docs/metrics.md` and the tests of dashboards and alerts read the same declarations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST

Kind = Literal["counter", "gauge", "histogram", "info"]
Metric = Counter | Gauge | Histogram | Info

NO_VALUE = float("nan")
"""What a gauge says that is not known at present: absent is not zero."""


class Family(Struct, frozen=True, kw_only=True):
    """One declared figure. `name` is what a scrape shows, `_total` and `_info` included."""

    name: str
    kind: Kind
    words: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


class FamilyMaker:
    """Declares the figures of one program: all of one prefix, histograms with the same buckets."""

    def __init__(self, prefix: str, buckets: tuple[float, ...]) -> None:
        self._prefix = prefix
        self._buckets = buckets

    def __call__(self, name: str, kind: Kind, words: str, *labels: str) -> Family:
        """One figure; `name` without the prefix."""
        buckets = self._buckets if kind == "histogram" else ()
        return Family(name=f"{self._prefix}_{name}", kind=kind, words=words, labels=labels, buckets=buckets)


PROCESS_FAMILIES = (
    Family(name="process_cpu_seconds_total", kind="counter", words="CPU time spent by the process."),
    Family(name="process_resident_memory_bytes", kind="gauge", words="Resident memory of the process."),
    Family(name="process_virtual_memory_bytes", kind="gauge", words="Virtual memory of the process."),
    Family(name="process_start_time_seconds", kind="gauge", words="Unix time at which the process began."),
    Family(name="process_open_fds", kind="gauge", words="Open file descriptors."),
    Family(name="process_max_fds", kind="gauge", words="Most file descriptors that may be open."),
)
"""What every program exports beside its own (`prometheus_client.ProcessCollector`)."""


class MetricBook:
    """Declared figures and their values."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._registry = CollectorRegistry()
        self._metrics: dict[str, Metric] = {family.name: _made(family, self._registry) for family in families}
        ProcessCollector(registry=self._registry)

    def set(self, name: str, value: float | None, *labels: str) -> None:
        """A gauge's value; None where it is not known."""
        gauge = self._metrics[name]
        assert isinstance(gauge, Gauge), name
        (gauge.labels(*labels) if labels else gauge).set(NO_VALUE if value is None else value)

    def choose(self, name: str, chosen: str, among: Iterable[str], *labels: str) -> None:
        """A gauge with one series for each state: 1 for the one that holds, 0 for the others. The state is the last label."""
        for state in among:
            self.set(name, float(state == chosen), *labels, state)

    def add(self, name: str, amount: float, *labels: str) -> None:
        """Count on; an amount of zero makes the series visible."""
        counter = self._metrics[name]
        assert isinstance(counter, Counter), name
        (counter.labels(*labels) if labels else counter).inc(amount)

    def observe(self, name: str, value: float) -> None:
        """One observation of a histogram."""
        histogram = self._metrics[name]
        assert isinstance(histogram, Histogram), name
        histogram.observe(value)

    def tell(self, name: str, **facts: str) -> None:
        """Facts that do not change while the program runs."""
        info = self._metrics[name]
        assert isinstance(info, Info), name
        info.info(facts)

    def forget(self, name: str) -> None:
        """Drop every labelled series of a figure."""
        self._metrics[name].clear()

    def render(self) -> bytes:
        """What a scrape reads."""
        return generate_latest(self._registry)


def _made(family: Family, registry: CollectorRegistry) -> Metric:
    match family.kind:
        case "counter":
            return Counter(family.name.removesuffix("_total"), family.words, family.labels, registry=registry)
        case "gauge":
            gauge = Gauge(family.name, family.words, family.labels, registry=registry)
            if not family.labels:
                gauge.set(NO_VALUE)
            return gauge
        case "info":
            return Info(family.name.removesuffix("_info"), family.words, registry=registry)
        case "histogram":
            return Histogram(family.name, family.words, family.labels, registry=registry, buckets=family.buckets)
