"""The coordinator's errors: one root, one subclass per cause, numbers as attributes.

A message says what happened, what was expected, what was found and where, in one line; the command line prints it as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordinator.network.findings import Finding


class CoordinatorError(Exception):
    """Root of everything that the coordinator raises."""


class ConfigError(CoordinatorError):
    """The configuration cannot be used; the text names file, key and reason."""


class NetworkError(CoordinatorError):
    """A network could not be read or is not valid; `findings` holds every reason, the text the first few."""

    def __init__(self, what: str, findings: Sequence[Finding] = ()) -> None:
        self.findings = tuple(findings)
        shown = "; ".join(str(finding) for finding in self.findings[:3])
        more = f"; and {len(self.findings) - 3} more" if len(self.findings) > 3 else ""
        super().__init__(f"{what}: {shown}{more}" if shown else what)


class MissingPackageError(CoordinatorError):
    """An optional package that an importer needs is not installed; the text names the extra that brings it."""


class PowerFlowError(CoordinatorError):
    """A power flow did not converge (`failed_rows` are the scenarios) or was asked with arrays of the wrong shape."""

    def __init__(self, message: str, *, failed_rows: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.failed_rows = tuple(failed_rows)


class StoreError(CoordinatorError):
    """The store could not be written or read (full disk, lost connection, other schema)."""


class StoreFullError(StoreError):
    """The disk under the store is full; what could not be written stays in the bounded buffer."""


class UnverifiedEnvelopeError(CoordinatorError):
    """An envelope without a passed AC verification was about to be published under a guarantee class."""


class EnrolmentError(CoordinatorError):
    """An enrolment, renewal or revocation cannot be done; the text says why in one line and shows no secret."""
