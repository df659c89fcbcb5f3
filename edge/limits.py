"""Limits only narrow: ratings -> safety state -> envelope -> schedule -> policy, by intersection, highest first.

Each stage may tighten what the stages above it allow and can never loosen it. Limits on the connection point and on controllable
devices are magnitudes, so two of them always intersect; bands of signed power may not, and then the higher stage wins and the
reason is returned. Every limit in force keeps where it came from, until when it is known to hold, and which control set it.
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


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """Signed powers from `low_w` to `high_w`, and the stage that set them."""

    low_w: float
    high_w: float
    source: str


def narrow_bands(stages: Iterable[Band]) -> tuple[Band, str | None]:
    """The intersection of signed bands, highest stage first, with the reason where a lower stage lies outside a higher one.

    A band that does not meet the ones above it is replaced by the nearest end of theirs: as close to the lower stage's wish as the
    higher stage permits. The first stage is taken as it is; a stage that is upside down or not a number is passed over, and named.
    """
    iterator = iter(stages)
    first = next(iterator)
    low_w, high_w, source = first.low_w, first.high_w, first.source
    reason = None
    for stage in iterator:
        if not stage.low_w <= stage.high_w:
            reason = f"{stage.source}: band {stage.low_w:g} to {stage.high_w:g} W is not a band; passed over"
            continue
        if stage.low_w > high_w or stage.high_w < low_w:
            reason = (
                f"{stage.source}: {stage.low_w:g} to {stage.high_w:g} W lies outside {low_w:g} to {high_w:g} W of {source}; "
                f"{source} wins"
            )
            low_w = high_w = high_w if stage.low_w > high_w else low_w
            continue
        if stage.low_w > low_w or stage.high_w < high_w:
            source = stage.source
        low_w = max(low_w, stage.low_w)
        high_w = min(high_w, stage.high_w)
    return Band(low_w=low_w, high_w=high_w, source=source), reason
