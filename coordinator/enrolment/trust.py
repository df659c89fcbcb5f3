"""Keeps a running coordinator's trust equal to its members' file: a revoked key, or one past its overlap, is believed no longer. A shell.

The file is looked at every `LOOK_S` and read when it changed, and every `READ_S` because time alone ends a credential. A file that
cannot be read changes nothing and is reported once: trust that was given stays, none is added.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from coordinator.enrolment import members as rules
from coordinator.enrolment.folder import MEMBERS_FILE, read_members
from coordinator.errors import CoordinatorError
from protocols.errors import ProtocolError
from protocols.signing import Verifier

log = logging.getLogger(__name__)

LOOK_S: Final = 5.0
READ_S: Final = 60.0
WARN_S: Final = 30 * 86400.0


class MemberTrust:
    """The members of one file, brought into one verifier. Names that the file does not list keep the keys of the configuration."""

    def __init__(self, path: Path, verifier: Verifier) -> None:
        self._path = path
        self._verifier = verifier
        self._look_due_s = self._read_due_s = 0.0
        self._changed_ns = -1
        self._problem = ""
        self._warned: dict[str, str] = {}
        self._believed: dict[str, int] = {}
        self.expiries: dict[str, float] = {}

    def refresh(self, now_s: float, monotonic_s: float) -> None:
        """Do what is due; `now_s` is wall time, against which credentials end."""
        if monotonic_s < self._look_due_s:
            return
        self._look_due_s = monotonic_s + LOOK_S
        try:
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns == self._changed_ns and monotonic_s < self._read_due_s:
                return
            members = read_members(self._path)
        except (OSError, ProtocolError, CoordinatorError) as error:
            if str(error) != self._problem:
                self._problem = str(error)
                log.error("the members cannot be read, trust stays as it is: %s", error)
            return
        self._changed_ns, self._problem, self._read_due_s = changed_ns, "", monotonic_s + READ_S
        self._apply(members, now_s)

    def _apply(self, members: rules.Members, now_s: float) -> None:
        for name, keys in rules.trusted_keys(members, now_s).items():
            self._verifier.trust(name, keys)
            before = self._believed.get(name)
            if before is not None and before > 0 and len(keys) == 0:
                log.warning("%s is believed no longer: revoked or expired", name)
            self._believed[name] = len(keys)
        self.expiries = rules.expiries(members)
        warnings = rules.expiry(members, now_s, WARN_S)
        for name, words in warnings.items():
            if name not in self._warned:
                log.warning("the certificate of %s %s", name, words)
        self._warned = warnings


def member_trust(folder: Path, verifier: Verifier) -> MemberTrust | None:
    """Trust that follows the members' file in this folder; None where the community was not made by `init`. Raises what reading raises."""
    path = folder / MEMBERS_FILE
    if not path.exists():
        return None
    read_members(path)
    return MemberTrust(path, verifier)
