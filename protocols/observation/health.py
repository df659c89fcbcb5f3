"""A verdict on health as one JSON document, in the form of the internet draft "Health Check Response Format for HTTP APIs"
(draft-inadarei-api-health-check-06): `pass` and `warn` answer 200, `fail` answers 503. Pure.

The verdict is the worst of its checks. A check says in words what is wrong and, where there is something to measure, what was measured.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from enum import StrEnum

import msgspec
from msgspec import UNSET, UnsetType, field

CONTENT_TYPE = "application/health+json"


class Verdict(StrEnum):
    """`warn`: it does its work, and somebody should look. `fail`: it does not do its work as it should."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at; `name` has the draft's form component:measurement."""

    name: str
    verdict: Verdict
    words: str = ""
    value: float | None = None
    unit: str | None = None


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    status: Verdict
    time: str
    output: str | UnsetType = UNSET
    observed_value: float | UnsetType = field(default=UNSET, name="observedValue")
    observed_unit: str | UnsetType = field(default=UNSET, name="observedUnit")


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    status: Verdict
    version: str
    service_id: str = field(name="serviceId")
    description: str
    output: str | UnsetType = UNSET
    checks: dict[str, list[_Entry]]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What one program says about itself at `time_s`."""

    service: str
    description: str
    version: str
    time_s: float
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all checks."""
        order = list(Verdict)
        return max((check.verdict for check in self.checks), key=order.index, default=Verdict.PASS)

    @property
    def status(self) -> int:
        """The HTTP status code."""
        return 503 if self.verdict is Verdict.FAIL else 200

    def document(self) -> bytes:
        """All of it."""
        time = dt.datetime.fromtimestamp(self.time_s, dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        checks: dict[str, list[_Entry]] = {}
        for check in self.checks:
            checks.setdefault(check.name, []).append(_entry(check, time))
        trouble = worst_words(self.checks)
        document = _Document(
            status=self.verdict,
            version=self.version,
            service_id=self.service,
            description=self.description,
            output=trouble if trouble else UNSET,
            checks=checks,
        )
        return msgspec.json.encode(document)

    def bare(self) -> bytes:
        """What a stranger may know."""
        return msgspec.json.encode({"status": self.verdict})


def _entry(check: Check, time: str) -> _Entry:
    return _Entry(
        status=check.verdict,
        time=time,
        output=check.words if check.words else UNSET,
        observed_value=UNSET if check.value is None else check.value,
        observed_unit=UNSET if check.unit is None else check.unit,
    )


def worst_words(checks: Sequence[Check]) -> str:
    """What is wrong, in one line, failures first."""
    found = [check for verdict in (Verdict.FAIL, Verdict.WARN) for check in checks if check.verdict is verdict]
    return "; ".join(f"{check.name}: {check.words}" for check in found)


def judged(name: str, good: bool, words: str, *, otherwise: Verdict = Verdict.WARN) -> Check:
    """A check without a measurement; `words` are said where it is not good."""
    return Check(name=name, verdict=Verdict.PASS) if good else Check(name=name, verdict=otherwise, words=words)


def measured(
    name: str, value: float | None, unit: str, *, warn_above: float, fail_above: float = float("inf"), words: str
) -> Check:
    """A check of a measurement against two thresholds; a value that is not there fails."""
    if value is None:
        return Check(name=name, verdict=Verdict.FAIL, words=words)
    verdict = Verdict.FAIL if value > fail_above else Verdict.WARN if value > warn_above else Verdict.PASS
    return Check(name=name, verdict=verdict, words=words if verdict is not Verdict.PASS else "", value=value, unit=unit)


def credential_check(name: str, expires_s: float | None, now_s: float, *, warn_s: float = 30 * 86400.0) -> Check:
    """How long a certificate still lasts; None where none is used."""
    if expires_s is None:
        return Check(name=name, verdict=Verdict.PASS)
    left_s = expires_s - now_s
    verdict = Verdict.FAIL if left_s <= 0.0 else Verdict.WARN if left_s <= warn_s else Verdict.PASS
    words = "" if verdict is Verdict.PASS else f"expired {-left_s / 86400.0:.1f} days ago" if left_s <= 0.0 else "expires soon; renew it"
    return Check(name=name, verdict=verdict, words=words, value=round(left_s), unit="s")
