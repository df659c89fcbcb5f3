"""What the doctor may find: a verdict, what was seen, and what to do. The rules that judge are here, and pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from edge.upkeep.live import LiveControls, LiveState
from edge.upkeep.status import controls_words, is_well, span

DAY_S: Final = 86400.0
WARN_S: Final = 30.0 * DAY_S
URGENT_S: Final = 7.0 * DAY_S
LEAST_FREE_BYTES: Final = 20e6
SCARCE_BYTES: Final = 200e6
SLOW_SYNC_S: Final = 0.5
SPREAD_S: Final = 30.0
"""A message from this far in the future says that this clock is late (`protocols.signing` refuses it)."""


class Verdict(enum.StrEnum):
    """The worst one decides."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check: `what` was found, and the `remedy` where it is not ok."""

    check: str
    verdict: Verdict
    what: str
    remedy: str = ""


def worst(findings: Iterable[Finding]) -> Verdict:
    """The verdict on everything."""
    order = list(Verdict)
    return max((finding.verdict for finding in findings), key=order.index, default=Verdict.OK)


def judge_service(live: LiveState | None, now_s: float) -> Finding:
    """Is an edge running, and does it control?"""
    if live is None:
        return Finding(check="service", verdict=Verdict.FAIL, what="no edge is running", remedy="systemctl enable --now commonwatt-edge")
    words = f"{live.state.value}, up {span(now_s - live.started_s)}, {live.failed_cycles} of {live.cycles} cycles failed"
    if not is_well(live, now_s):
        late_s = now_s - live.time_s
        why = f"; the last cycle ended {span(late_s)} ago" if late_s > 10.0 * live.cycle_s else ""
        reasons = f": {'; '.join(live.reasons)}" if live.reasons else ""
        remedy = "see the findings below, then: journalctl -u commonwatt-edge"
        return Finding(check="service", verdict=Verdict.FAIL, what=words + why + reasons, remedy=remedy)
    if live.failed_cycles > 0:
        return Finding(check="service", verdict=Verdict.WARN, what=words, remedy="journalctl -u commonwatt-edge says why they failed")
    return Finding(check="service", verdict=Verdict.OK, what=words)


def judge_clock(*, synchronised: bool | None, now_s: float, valid_from_s: float | None, heard_s: float | None) -> Finding:
    """`valid_from_s` is when this node's certificate begins, `heard_s` the time in the newest word of the coordinator: both are past."""
    remedy = "set the clock: timedatectl set-ntp true (apt-get install systemd-timesyncd)"
    if valid_from_s is not None and now_s < valid_from_s:
        what = f"{span(valid_from_s - now_s)} before this node's certificate begins: the clock is wrong"
        return Finding(check="clock", verdict=Verdict.FAIL, what=what, remedy=remedy)
    if heard_s is not None and now_s < heard_s - SPREAD_S:
        what = f"{span(heard_s - now_s)} behind the coordinator: its messages are refused"
        return Finding(check="clock", verdict=Verdict.FAIL, what=what, remedy=remedy)
    if synchronised is False:
        return Finding(check="clock", verdict=Verdict.WARN, what="not synchronised to any time server", remedy=remedy)
    return Finding(check="clock", verdict=Verdict.OK, what="synchronised" if synchronised else "plausible")


def judge_certificates(expiries: Mapping[str, float], now_s: float) -> list[Finding]:
    """One finding for each certificate; `expiries` are Unix seconds by name."""
    remedies = {
        "node": "commonwatt-edge renew, `accept` at the coordinator, commonwatt-edge enrol ANSWER, then restart the service",
        "authority": "ask the operator: a new authority means enrolling again (commonwatt-edge enrol BUNDLE --replace)",
    }
    findings = []
    for name, expires_s in expiries.items():
        words = expiry_words(expires_s, now_s)
        verdict = Verdict.OK if words is None else Verdict.FAIL if expires_s <= now_s else Verdict.WARN
        what = f"{name}: {words}" if words is not None else f"{name}: {(expires_s - now_s) / DAY_S:.0f} days left"
        remedy = "" if verdict is Verdict.OK else remedies.get(name, "renew it")
        findings.append(Finding(check="certificates", verdict=verdict, what=what, remedy=remedy))
    return findings


def expiry_words(expires_s: float, now_s: float, warn_s: float = WARN_S) -> str | None:
    """A warning about a certificate, None while it has long to go."""
    left_s = expires_s - now_s
    if left_s <= 0.0:
        return f"expired {span(-left_s)} ago"
    return f"expires in {span(left_s)}" if left_s <= warn_s else None


def judge_disk(*, free_bytes: float, sync_s: float | None, trouble: str, set_aside: bool) -> Finding:
    """`sync_s` is how long a small file took to reach the disk; `trouble` is what is wrong with the state that lies there."""
    if sync_s is None:
        what = "the state's folder cannot be written: nothing survives a power cut"
        return Finding(check="disk", verdict=Verdict.FAIL, what=what, remedy="df -h; mount; does the folder belong to commonwatt-edge?")
    make_room = "journalctl --vacuum-size=50M; apt-get clean"
    if free_bytes < LEAST_FREE_BYTES:
        return Finding(check="disk", verdict=Verdict.FAIL, what=f"{free_bytes / 1e6:.0f} MB free", remedy=make_room)
    if trouble:
        remedy = "a restart sets it aside; the default comes back from the coordinator"
        return Finding(check="disk", verdict=Verdict.FAIL, what=trouble, remedy=remedy)
    if set_aside:
        what = "a damaged state was set aside (*.damaged): a power cut on a disk that lies about its writes, or a dying one"
        return Finding(check="disk", verdict=Verdict.WARN, what=what, remedy="use a better memory card, then remove the file")
    words = f"{free_bytes / 1e6:.0f} MB free, a write is safe after {1e3 * sync_s:.0f} ms"
    if free_bytes < SCARCE_BYTES:
        return Finding(check="disk", verdict=Verdict.WARN, what=words, remedy=make_room)
    if sync_s > SLOW_SYNC_S:
        return Finding(check="disk", verdict=Verdict.WARN, what=words, remedy="the disk is slow or worn; control waits for it")
    return Finding(check="disk", verdict=Verdict.OK, what=words)


def judge_controls(controls: LiveControls | None, now_s: float) -> Finding:
    """The last envelope, and the default behind it."""
    if controls is None or (controls.default is None and controls.count == 0):
        what = "neither an envelope nor a default was ever received: the contract limits hold"
        return Finding(check="envelope", verdict=Verdict.WARN, what=what, remedy="is the coordinator running, and does it know this node?")
    words = controls_words(controls, now_s)
    if controls.until_s is None or controls.until_s <= now_s:
        return Finding(check="envelope", verdict=Verdict.WARN, what=words, remedy="the default holds; is the coordinator running?")
    if controls.default is None:
        return Finding(check="envelope", verdict=Verdict.WARN, what=words, remedy="the operator has set no default for this node")
    return Finding(check="envelope", verdict=Verdict.OK, what=words)
