"""How much a member is trusted to lead, from what was observed of it (Li et al. 2026, section 4.4).

    R = (0.3 U + 0.5 A + 0.2 C) * 0.5^strikes

U is uptime, A adherence to the member's own plans, C the reliability of its messages, each an exponentially weighted mean in [0, 1] with
a half-life of seven days. Strikes are proven breaches of the protocol (two aggregates of one round, a false drop list); they fade with a
half-life of 30 days, and for as long after one a member does not lead at all (`trusted_frac`). R grows by at most 0.02 a day, so that
nobody buys a seat with one good week; it falls at once. A newcomer begins at 0.5, below the usual threshold of 0.6. Everything is a pure
function of the observations, in the order in which they were made.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, structs

from protocols.units import Fraction

WEIGHT_UPTIME: Final = 0.3
WEIGHT_ADHERENCE: Final = 0.5
WEIGHT_COMMUNICATION: Final = 0.2
HALF_LIFE_S: Final = 7 * 86400.0
STRIKE_HALF_LIFE_S: Final = 30 * 86400.0
GROWTH_PER_S: Final = 0.02 / 86400.0
NEWCOMER: Final = 0.5
BARRING_STRIKES: Final = 0.5
"""One breach counts so much after one half-life of strikes."""


class Reputation(Struct, frozen=True, kw_only=True):
    """What is known of one member at `time_s`. `value_frac` is R, limited in its growth."""

    time_s: float
    uptime_frac: Fraction = NEWCOMER
    adherence_frac: Fraction = NEWCOMER
    communication_frac: Fraction = NEWCOMER
    strikes: float = 0.0
    value_frac: Fraction = NEWCOMER


class Observation(Struct, frozen=True, kw_only=True):
    """Shares of one interval [time_s - duration_s, time_s): online, within its plan's tolerance, messages that arrived in time.

    None where the interval says nothing (no plan was due, no message was expected).
    """

    time_s: float
    duration_s: float
    online_frac: Fraction | None = None
    adhered_frac: Fraction | None = None
    delivered_frac: Fraction | None = None


def observe(reputation: Reputation, observation: Observation) -> Reputation:
    """The reputation after an interval. An observation that is older than what is known is ignored."""
    if observation.time_s <= reputation.time_s:
        return reputation
    fresh_frac = 1.0 - 0.5 ** (min(observation.duration_s, observation.time_s - reputation.time_s) / HALF_LIFE_S)

    def blend(mean: float, seen: float | None) -> float:
        return mean if seen is None else mean + fresh_frac * (min(max(seen, 0.0), 1.0) - mean)

    moved = structs.replace(
        reputation,
        uptime_frac=blend(reputation.uptime_frac, observation.online_frac),
        adherence_frac=blend(reputation.adherence_frac, observation.adhered_frac),
        communication_frac=blend(reputation.communication_frac, observation.delivered_frac),
    )
    return _settle(moved, observation.time_s)


def strike(reputation: Reputation, time_s: float) -> Reputation:
    """The reputation after a proven breach: halved at once."""
    settled = _settle(reputation, max(time_s, reputation.time_s))
    return _settle(structs.replace(settled, strikes=settled.strikes + 1.0), settled.time_s)


def trusted_frac(reputation: Reputation) -> float:
    """What an epoch says of the member: its reputation, and nothing while a proven breach is fresh, however good it was before."""
    return 0.0 if reputation.strikes >= BARRING_STRIKES else reputation.value_frac


def _settle(reputation: Reputation, time_s: float) -> Reputation:
    elapsed_s = time_s - reputation.time_s
    strikes = reputation.strikes * 0.5 ** (elapsed_s / STRIKE_HALF_LIFE_S)
    earned_frac = (
        WEIGHT_UPTIME * reputation.uptime_frac
        + WEIGHT_ADHERENCE * reputation.adherence_frac
        + WEIGHT_COMMUNICATION * reputation.communication_frac
    ) * 0.5**strikes
    value_frac = min(earned_frac, reputation.value_frac + GROWTH_PER_S * elapsed_s)
    return structs.replace(reputation, time_s=time_s, strikes=strikes, value_frac=value_frac)
