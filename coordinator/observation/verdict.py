"""Whether the coordinator does its work, and what is wrong where it does not. Pure."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from coordinator.config import CoordinatorConfig
from protocols.observation.health import Check, Health, Verdict, credential_check, judged, measured

TURN_LATE_S = 30.0
UNREACHABLE_FRAC = 0.1
"""Some households are always away; more than this share is something to look at."""

FATAL = frozenset({"no-default", "store"})


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to judge. `round_s` is when a sum was last opened, None where none was."""

    now_s: float
    turn_s: float | None
    covered_until_s: float
    connected: bool
    conditions: Collection[str]
    unreachable: int
    failsafe: int
    expiries: dict[str, float]
    round_s: float | None


def coordinator_health(config: CoordinatorConfig, seen: Seen, version: str) -> Health:
    """The verdict: `fail` where nothing is stored or no default is safe, `warn` where nodes run on less than they should."""
    age_s = None if seen.turn_s is None else seen.now_s - seen.turn_s
    envelopes = config.envelopes
    checks = [
        measured("loop:age", age_s, "s", warn_above=5.0, fail_above=TURN_LATE_S, words="the loop that listens and stores is not running"),
        judged("broker:connected", seen.connected, "the broker cannot be reached; the nodes run on what they have", otherwise=Verdict.FAIL),
        _horizon(seen.covered_until_s - seen.now_s, envelopes.period_s),
        *(
            judged(f"condition:{name}", False, "it holds; see the status", otherwise=Verdict.FAIL if name in FATAL else Verdict.WARN)
            for name in sorted(seen.conditions)
        ),
        measured(
            "nodes:unreachable",
            float(seen.unreachable),
            "nodes",
            warn_above=UNREACHABLE_FRAC * len(config.nodes),
            words=f"{seen.unreachable} of {len(config.nodes)} nodes are offline or were not heard",
        ),
        measured("nodes:failsafe", float(seen.failsafe), "nodes", warn_above=0.0, words=f"{seen.failsafe} nodes are in failsafe"),
        *(credential_check(f"certificate:{name}", expires_s, seen.now_s) for name, expires_s in sorted(seen.expiries.items())),
    ]
    if config.aggregation.enabled:
        checks.append(_sums(seen))
    return Health(
        service=f"{config.identity.community}/coordinator",
        description="coordinator of one feeder",
        version=f"commonwatt {version}",
        time_s=seen.now_s,
        checks=tuple(checks),
    )


def _horizon(left_s: float, period_s: float) -> Check:
    verdict = Verdict.PASS if left_s >= period_s else Verdict.WARN
    words = "" if verdict is Verdict.PASS else "envelopes do not reach to the next period; the default follows"
    return Check(name="envelopes:horizon", verdict=verdict, words=words, value=round(left_s), unit="s")


def _sums(seen: Seen) -> Check:
    age_s = float("inf") if seen.round_s is None else seen.now_s - seen.round_s
    return judged("rounds:age", age_s <= 3600.0, "no sum of the community was opened within an hour")
