"""Configuration of a household's part in its community. Both sections are off by default."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from protocols.aggregation.group import MEMBERS_MIN
from protocols.election.values import Timing
from protocols.mqtt_bus import MqttSettings
from protocols.units import Fraction, Identifier

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


class NeighbourSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A community of the region, and the public keys with which its coordinator signs its epochs."""

    name: Identifier
    coordinator_keys: Annotated[tuple[FilePath, ...], Meta(min_length=1, max_length=8)]


class RegionSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How this household takes part in the election of the region, whenever it leads its community.

    `communities` are all of the region, this household's own among them; `coordinator_keys` are those of the region's coordinator, and
    `broker` is the region's, where it is not the community's own. Every household of the region needs the same durations; they are longer
    than those at home, so that a change there has come to rest.
    """

    enabled: bool = False
    name: Identifier = "region"
    coordinator_keys: Annotated[tuple[FilePath, ...], Meta(max_length=8)] = ()
    broker: MqttSettings | None = None
    communities: Annotated[tuple[NeighbourSection, ...], Meta(max_length=1000)] = ()
    heartbeat_s: WaitS = 2.0
    lease_s: WaitS = 6.4
    stagger_s: Annotated[float, Meta(ge=0.01, le=600.0)] = 0.6
    candidacy_s: WaitS = 4.0
    tenure_s: Annotated[float, Meta(ge=10.0, le=30 * 86400.0)] = 6 * 3600.0

    @property
    def timing(self) -> Timing:
        """The durations as the election takes them."""
        return Timing(
            heartbeat_s=self.heartbeat_s,
            lease_s=self.lease_s,
            stagger_s=self.stagger_s,
            candidacy_s=self.candidacy_s,
            tenure_s=self.tenure_s,
        )


def check_region(region: RegionSection, leadership: LeadershipSection, community: str) -> str | None:
    """The first relation of the region that does not hold, in words with its path, or None."""
    if not region.enabled:
        return None
    if not leadership.enabled:
        return "only elected leaders take part in a region: leadership.enabled must be true - at $.region.enabled"
    if not region.coordinator_keys:
        return "coordinator_keys are needed to know which regional epoch to believe - at $.region.coordinator_keys"
    names = [neighbour.name for neighbour in region.communities]
    if community not in names:
        return f"communities must name this household's own, {community!r}, got {names} - at $.region.communities"
    if len(set(names)) != len(names):
        return f"a community is named twice: {names} - at $.region.communities"
    if region.name in names:
        return f"the region must not be called like one of its communities, {region.name!r} - at $.region.name"
    if region.lease_s <= region.heartbeat_s:
        return f"lease_s ({region.lease_s:g}) must exceed heartbeat_s ({region.heartbeat_s:g}) - at $.region.lease_s"
    return None


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
