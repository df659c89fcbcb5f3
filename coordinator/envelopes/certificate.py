"""A certificate is the only way to an envelope.

A `Certificate` holds the very box that was checked together with the worst that exact AC power flow found in it. Its constructor
refuses a check that did not converge or that broke a limit, and envelopes are read out of it, so an envelope that was not verified
cannot be expressed.
"""

from __future__ import annotations

import math

import msgspec

from coordinator.envelopes.values import AllocationRule
from coordinator.errors import UnverifiedEnvelopeError
from coordinator.powerflow.radial import ComplexArray
from protocols.messages import Guarantee


class Extreme(msgspec.Struct, frozen=True, kw_only=True):
    """The worst value of one kind of limit and where it occurred; `margin` to the limit, in the same unit, negative when broken."""

    value: float
    limit: float
    margin: float
    where: str


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What exact AC power flow found at the corners. An extreme is None where the network sets no such limit.

    Voltages in per unit of the bus's nominal, currents as a share of ampacity, transformer loading as a share of its rating (sum of
    phases).
    """

    engine: str
    method: str
    corners: int
    converged: bool
    highest_voltage: Extreme
    lowest_voltage: Extreme
    line: Extreme | None
    transformer: Extreme | None

    @property
    def extremes(self) -> tuple[Extreme, ...]:
        """All extremes that have a limit."""
        return tuple(item for item in (self.highest_voltage, self.lowest_voltage, self.line, self.transformer) if item is not None)

    @property
    def holds(self) -> bool:
        """Whether everything converged and every margin is a number of at least zero."""
        return self.converged and all(math.isfinite(item.margin) and item.margin >= 0.0 for item in self.extremes)


class VerifiedLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one connection inside a checked box, and what binds them."""

    connection: str
    import_limit_w: float
    export_limit_w: float
    import_bound_by: str
    export_bound_by: str


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A checked box. Building one from a check that does not hold raises UnverifiedEnvelopeError."""

    guarantee: Guarantee
    check: Check
    box: tuple[VerifiedLimits, ...]

    def __post_init__(self) -> None:
        if self.guarantee is Guarantee.UNVERIFIED:
            raise UnverifiedEnvelopeError("a certificate needs a guarantee class of robust or coincident, got unverified")
        if not self.check.converged:
            raise UnverifiedEnvelopeError("the AC power flow did not converge at some corner of the box, so nothing is verified")
        for extreme in self.check.extremes:
            if not (math.isfinite(extreme.margin) and extreme.margin >= 0.0):
                raise UnverifiedEnvelopeError(
                    f"{extreme.where} reaches {extreme.value:.6g} at a corner of the box, limit {extreme.limit:.6g}"
                )
        for item in self.box:
            if not all(math.isfinite(limit) and limit >= 0.0 for limit in (item.import_limit_w, item.export_limit_w)):
                raise UnverifiedEnvelopeError(
                    f"{item.connection}: limits ({item.import_limit_w}, {item.export_limit_w}) W are no magnitudes"
                )


class Envelope:
    """The published pair of limits of one connection: -export_limit_w <= net import <= import_limit_w, with its certificate."""

    __slots__ = ("_certificate", "_limits")

    def __init__(self, certificate: Certificate, position: int) -> None:
        """Read the limits at a position of the certificate's box."""
        self._certificate = certificate
        self._limits = certificate.box[position]

    @property
    def connection(self) -> str:
        """Whose envelope this is."""
        return self._limits.connection

    @property
    def import_limit_w(self) -> float:
        """Most that the connection may take."""
        return self._limits.import_limit_w

    @property
    def export_limit_w(self) -> float:
        """Most that the connection may give."""
        return self._limits.export_limit_w

    @property
    def import_bound_by(self) -> str:
        """Why the import limit is not higher."""
        return self._limits.import_bound_by

    @property
    def export_bound_by(self) -> str:
        """Why the export limit is not higher."""
        return self._limits.export_bound_by

    @property
    def guarantee(self) -> Guarantee:
        """What was proved."""
        return self._certificate.guarantee

    @property
    def certificate(self) -> Certificate:
        """The check behind it."""
        return self._certificate

    def __repr__(self) -> str:
        return (
            f"Envelope({self.connection}: export <= {self.export_limit_w:.0f} W, import <= {self.import_limit_w:.0f} W, "
            f"{self.guarantee.value})"
        )


class EnvelopeResult(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Envelopes of one interval. `rounds` counts how often limits were linearised anew; `theta` is the final uniform shrink (1 = none).

    `corner_va` (connections, corners) is the power of every connection at each corner that was checked, for whoever wants to check them
    with an engine of their own.
    """

    certificate: Certificate
    rule: AllocationRule
    rounds: int
    theta: float
    corner_va: ComplexArray

    @property
    def envelopes(self) -> tuple[Envelope, ...]:
        """One envelope per participant, in their order."""
        return tuple(Envelope(self.certificate, position) for position in range(len(self.certificate.box)))

    @property
    def guarantee(self) -> Guarantee:
        """What was proved."""
        return self.certificate.guarantee


class Infeasible(msgspec.Struct, frozen=True, kw_only=True):
    """There is no envelope: passive loads and the floors alone may break a limit. `broken` is never empty."""

    broken: tuple[Extreme, ...]
    reason: str
