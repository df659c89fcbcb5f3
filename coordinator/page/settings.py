"""Configuration of the page. Everything has a default; nothing listens until `commonwatt-coordinator page` is run."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

FilePath = Annotated[str, Meta(min_length=1, max_length=1000)]
Port = Annotated[int, Meta(ge=1, le=65535)]


class PageSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where browsers find the page, and where its broker is (`broker/page.conf`, on this machine).

    Beyond this machine the page speaks TLS, because tokens pass. With `open` everybody who reaches it sees what an administrator sees:
    for the bench, whose homes are invented.
    """

    address: Annotated[str, Meta(min_length=1, max_length=60)] = "127.0.0.1"
    port: Port = 8080
    tls_cert_file: FilePath | None = None
    tls_key_file: FilePath | None = None
    broker_port: Port = 8885
    password_file: FilePath = "keys/projector.password"
    tokens_file: FilePath = "page.tokens"
    open: bool = False


def check_page(section: PageSection) -> str | None:
    """What is wrong with the section, in words with its path, or None."""
    try:
        address = ipaddress.ip_address(section.address)
    except ValueError:
        return f"address {section.address!r}: expected an IP address, such as 127.0.0.1 or 0.0.0.0 - at $.page.address"
    if (section.tls_cert_file is None) != (section.tls_key_file is None):
        return "tls_cert_file and tls_key_file belong together - at $.page.tls_cert_file"
    if section.tls_cert_file is None and not address.is_loopback:
        return (
            f"address {section.address} is reached from other machines, and tokens must not cross a network in the clear: give"
            " tls_cert_file and tls_key_file - at $.page.address"
        )
    return None


def page_beside(section: PageSection, folder: Path) -> PageSection:
    """The same section with every relative path taken from `folder`."""
    cert, key = section.tls_cert_file, section.tls_key_file
    return replace(
        section,
        tls_cert_file=None if cert is None else str(folder / cert),
        tls_key_file=None if key is None else str(folder / key),
        password_file=str(folder / section.password_file),
        tokens_file=str(folder / section.tokens_file),
    )
