"""What a scenario says of its community: how elections and rounds are timed, and what befalls whoever leads."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from coordinator.aggregation.settings import AggregationSection as OperatorSection
from coordinator.aggregation.settings import NegotiationSection
from edge.leadership.settings import AggregationSection, LeadershipSection
from protocols.tariff import PriceWindow

Seconds = Annotated[float, Meta(ge=0.2, le=86400.0)]


class Mishap(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From `start_s` after the beginning of the run, for `duration_s`, to whoever leads then."""

    kind: Literal["leader_killed", "leader_frozen", "leader_partitioned", "leader_lies"]
    start_s: Annotated[float, Meta(ge=0.0, le=14 * 86400.0)]
    duration_s: Annotated[float, Meta(ge=1.0, le=86400.0)]


class CommunitySection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Durations are those of the edge's `[leadership]` and `[aggregation]`; members act once in a control cycle, so they are multiples
    of it, and an answer takes two: a candidacy has to last longer. `key_bits` below 3072 is for benches that have to be quick. A
    negotiation is held every `negotiation_period_s` where `negotiation_iterations` > 0, about the prices of the scenario's tariff and
    within `import_limit_w` and `export_limit_w`, or what the feeder's transformer carries."""

    heartbeat_s: Seconds = 10.0
    lease_s: Seconds = 35.0
    stagger_s: Seconds = 10.0
    candidacy_s: Seconds = 35.0
    tenure_s: Annotated[float, Meta(ge=10.0, le=30 * 86400.0)] = 4 * 3600.0
    period_s: Seconds = 900.0
    collect_s: Seconds = 40.0
    recover_s: Seconds = 30.0
    resend_s: Seconds = 30.0
    members_min: Annotated[int, Meta(ge=3, le=4096)] = 10
    key_bits: Annotated[int, Meta(ge=1024, le=16384)] = 3200
    negotiation_iterations: Annotated[int, Meta(ge=0, le=1000)] = 0
    negotiation_period_s: Annotated[float, Meta(ge=600.0, le=86400.0)] = 6 * 3600.0
    import_limit_w: Annotated[float, Meta(gt=0.0, le=1e9)] | None = None
    export_limit_w: Annotated[float, Meta(gt=0.0, le=1e9)] | None = None
    mishaps: Annotated[tuple[Mishap, ...], Meta(max_length=100)] = ()

    def leadership(self, folder: str) -> LeadershipSection:
        """The section of one edge."""
        return LeadershipSection(
            enabled=True,
            folder=folder,
            runtime_folder=f"{folder}/run",
            heartbeat_s=self.heartbeat_s,
            lease_s=self.lease_s,
            stagger_s=self.stagger_s,
            candidacy_s=self.candidacy_s,
            tenure_s=self.tenure_s,
        )

    def aggregation(self) -> AggregationSection:
        """The section of one edge."""
        return AggregationSection(
            enabled=True,
            period_s=self.period_s,
            collect_s=self.collect_s,
            recover_s=self.recover_s,
            resend_s=self.resend_s,
            pool_entries=2,
            keep_openings_s=0.0,
            min_key_bits=min(3072, self.key_bits),
            members_min=self.members_min,
        )

    def operator(self, buy: tuple[PriceWindow, ...], sell: tuple[PriceWindow, ...], timezone: str) -> OperatorSection:
        """The section of the coordinator, whose community buys and sells by these windows of local time."""
        return OperatorSection(
            enabled=True,
            key_bits=self.key_bits,
            members_min=self.members_min,
            key_life_s=366 * 86400.0,
            negotiation=NegotiationSection(
                iterations_max=self.negotiation_iterations,
                period_s=self.negotiation_period_s,
                buy=buy,
                sell=sell,
                timezone=timezone,
                import_limit_w=self.import_limit_w,
                export_limit_w=self.export_limit_w,
            ),
        )
