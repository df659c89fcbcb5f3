"""Where figures and health are served. Off unless configured; on the loopback interface unless said otherwise."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from msgspec import Meta, Struct

LONGEST_PATH = 1000


class MetricsSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`/metrics` (Prometheus) and `/health` (JSON) at http://host:port. Figures show how a household lives, so an address that others
    reach needs a `token_file`: a file of mode 0600 with 16 to 256 characters, which Prometheus sends as a bearer token
    (`authorization: credentials_file`). Without the token, `/health` then says its verdict and nothing else."""

    enabled: bool = False
    host: Annotated[str, Meta(min_length=1, max_length=253)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 9464
    token_file: Annotated[str, Meta(min_length=1, max_length=LONGEST_PATH)] | None = None


def check_metrics(section: MetricsSection) -> str | None:
    """What is wrong with the section, in words with its path, or None."""
    if section.enabled and section.token_file is None and not is_loopback(section.host):
        return (
            f"host {section.host!r} can be reached by others, expected a token_file beside it or a loopback address such as 127.0.0.1"
            " - at $.metrics.host"
        )
    return None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address. A name other than localhost may resolve to anything."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
