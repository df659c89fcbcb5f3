"""Limits only narrow: ratings -> safety state -> envelope, by intersection, highest first.

Each stage may tighten what the stages above it allow and can never loosen it. Limits are magnitudes, so two of them always intersect.
What comes below them, schedule and policy, are wishes: the guard moves each into what the limits leave (`edge.guard`) and returns the
reason. Every limit in force keeps where it came from, until when it is known to hold, and which control set it.
"""

from collections.abc import Iterable

import msgspec


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One limit with its provenance: `source` is rating, contract, failsafe, default, control or held, `expires_s` Unix time."""

    limit_w: float
    source: str
    mrid: str | None = None
    expires_s: float | None = None


class LimitSet(msgspec.Struct, frozen=True, kw_only=True):
    """The four CSIP-AUS limits; `None` means that this stage says nothing. Export and import bound the connection point,
    generation and load the controllable devices alone."""

    export: Limit | None = None
    import_: Limit | None = None
    generation: Limit | None = None
    load: Limit | None = None


NO_LIMITS = LimitSet()


def narrow_limits(stages: Iterable[LimitSet]) -> LimitSet:
    """The intersection of the stages, highest first; of equal limits the higher stage is named as the source."""
    export = import_ = generation = load = None
    for stage in stages:
        export = tighter(export, stage.export)
        import_ = tighter(import_, stage.import_)
        generation = tighter(generation, stage.generation)
        load = tighter(load, stage.load)
    return LimitSet(export=export, import_=import_, generation=generation, load=load)


def tighter(higher: Limit | None, lower: Limit | None) -> Limit | None:
    """The smaller of two limits; on a tie the higher stage's."""
    if higher is None:
        return lower
    if lower is None or not lower.limit_w < higher.limit_w:
        return higher
    return lower
