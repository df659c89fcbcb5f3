"""Configuration of a household's part in its community. Both sections are off by default."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from protocols.aggregation.group import MEMBERS_MIN
from protocols.election.values import Timing
from protocols.units import Fraction

FilePath = Annotated[str, Meta(min_length=1, max_length=1000)]
WaitS = Annotated[float, Meta(ge=0.2, le=3600.0)]


class LeadershipSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How this household takes part in elections (`protocols.election.values.Timing` explains the durations).

    Every member of a community needs the same durations. Ballot, keys and openings lie in `folder`. `runtime_folder` must be one that
    no backup takes along and no restart keeps (`/run/...`): the randomiser pool keeps its witness there.
    """

    enabled: bool = False
    folder: FilePath = "community"
    runtime_folder: FilePath = "community/run"
    heartbeat_s: WaitS = 0.5
    renew_every: Annotated[int, Meta(ge=1, le=10)] = 1
    lease_s: WaitS = 1.6
    stagger_s: Annotated[float, Meta(ge=0.01, le=600.0)] = 0.15
    candidacy_s: WaitS = 1.0
    tenure_s: Annotated[float, Meta(ge=10.0, le=30 * 86400.0)] = 3600.0
    drift_frac: Annotated[float, Meta(ge=0.0, le=0.5)] = 0.05

    @property
    def timing(self) -> Timing:
        """The durations as the election takes them."""
        return Timing(
            heartbeat_s=self.heartbeat_s,
            renew_every=self.renew_every,
            lease_s=self.lease_s,
            stagger_s=self.stagger_s,
            candidacy_s=self.candidacy_s,
            tenure_s=self.tenure_s,
            drift_frac=self.drift_frac,
        )


class AggregationSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How this household reports, and how it runs rounds while it leads.

    With `enabled`, telemetry, forecasts, plans and flexibility are no longer published: what others need goes through rounds. Plans are
    summed every `period_s`, flexibility, which covers hours ahead, with every `flexibility_every`-th of them. A leader reports for
    `collect_s`, waits `recover_s` for each step of a recovery, and says its aggregate again every `resend_s` until the operator has
    answered. Openings are kept for `keep_openings_s`, for the settlement of sampled rounds. This household takes part in no sum over fewer
    than `members_min`, whatever the operator says, and opens at most the share `settlement_share_max` of its reports to the settlement. It
    computes the share `audit_share` of the sums again, drawn by chance.
    """

    enabled: bool = False
    period_s: Annotated[float, Meta(ge=10.0, le=86400.0)] = 900.0
    flexibility_every: Annotated[int, Meta(ge=1, le=96)] = 4
    collect_s: WaitS = 20.0
    recover_s: WaitS = 5.0
    resend_s: WaitS = 5.0
    pool_entries: Annotated[int, Meta(ge=0, le=256)] = 8
    keep_openings_s: Annotated[float, Meta(ge=0.0, le=366 * 86400.0)] = 7 * 86400.0
    min_key_bits: Annotated[int, Meta(ge=1024, le=16384)] = 3072
    members_min: Annotated[int, Meta(ge=3, le=4096)] = MEMBERS_MIN
    audit_share: Fraction = 0.01
    settlement_share_max: Fraction = 0.02


def check_sections(leadership: LeadershipSection, aggregation: AggregationSection) -> str | None:
    """The first relation that does not hold, in words with its path, or None."""
    if aggregation.enabled and not leadership.enabled:
        return "rounds need an elected leader: leadership.enabled must be true - at $.aggregation.enabled"
    if leadership.lease_s <= leadership.heartbeat_s * leadership.renew_every:
        return (
            f"lease_s ({leadership.lease_s:g}) must exceed heartbeat_s x renew_every "
            f"({leadership.heartbeat_s * leadership.renew_every:g}), or every lease runs out - at $.leadership.lease_s"
        )
    if aggregation.period_s <= aggregation.collect_s:
        return (
            f"period_s ({aggregation.period_s:g}) must exceed collect_s ({aggregation.collect_s:g}) - at $.aggregation.period_s"
        )
    return None
