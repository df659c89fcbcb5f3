"""One isolated, locked-down OpenDSS context. A .dss file is a script, so whatever could reach beyond the circuit is switched off."""

from __future__ import annotations

from typing import Any

from coordinator.errors import MissingPackageError


def new_session() -> Any:
    """Return a fresh OpenDSSDirect context that may neither change directory, open editors nor run shell commands."""
    try:
        from opendssdirect import dss
    except ImportError as error:
        raise MissingPackageError("OpenDSS needs the package OpenDSSDirect.py: install commonwatt[coordinator-import]") from error
    session = dss.NewContext()
    basic = session.Basic
    basic.AllowChangeDir(False)
    basic.AllowDOScmd(False)
    basic.AllowEditor(False)
    basic.AllowForms(False)
    return session
