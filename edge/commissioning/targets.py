"""Where `commonwatt-edge init` looks: addresses in the words of an installer, taken apart. Pure.

| written | meaning |
|---|---|
| `192.168.1.40` | Modbus TCP at port 502 |
| `192.168.1.40:1502`, `gateway.lan:15020-15023` | another port, or a range of them |
| `192.168.1.0/24` | every address of a network, of at most 256 |
| `/dev/ttyUSB0` | a serial line |
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from edge.errors import ConfigurationError

MOST_ENDPOINTS: Final = 512
MOST_UNITS: Final = 247
PORT: Final = 502
_HOST = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")


class TcpTarget(msgspec.Struct, frozen=True, kw_only=True):
    """One port of one host."""

    host: str
    port: int


class SerialTarget(msgspec.Struct, frozen=True, kw_only=True):
    """One serial line."""

    port: str


Target = TcpTarget | SerialTarget


def read_targets(texts: Sequence[str]) -> list[Target]:
    """Every place that is meant, in the order given, none twice. Raises `ConfigurationError`."""
    found: dict[Target, None] = {}
    for text in texts:
        for target in _expand(text):
            found[target] = None
            if len(found) > MOST_ENDPOINTS:
                raise ConfigurationError(f"{text}: more than {MOST_ENDPOINTS} places to look at; name the devices more closely")
    return list(found)


def read_units(text: str) -> list[int]:
    """Modbus units such as `1`, `1-5` or `1,3,126`. Raises `ConfigurationError`."""
    units: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.partition("-")
        low, high = _number(first, text, "unit"), _number(last if dash else first, text, "unit")
        if not 0 <= low <= high <= MOST_UNITS:
            raise ConfigurationError(f"--units {text}: expected units of 0 to {MOST_UNITS}, such as 1-5 or 1,3,126")
        units |= dict.fromkeys(range(low, high + 1))
    return list(units)


def _expand(text: str) -> list[Target]:
    if text.startswith("/"):
        return [SerialTarget(port=text)]
    if "/" in text:
        return _network(text)
    host, colon, ports = text.rpartition(":") if ":" in text else (text, "", str(PORT))
    if not _HOST.match(host):
        raise ConfigurationError(f"{text[:80]}: expected HOST, HOST:PORT, HOST:FIRST-LAST, a network (192.168.1.0/24) or /dev/tty...")
    first, dash, last = ports.partition("-")
    low = _number(first, text, "port") if colon else PORT
    high = _number(last, text, "port") if dash else low
    if not 1 <= low <= high <= 65535:
        raise ConfigurationError(f"{text}: expected ports of 1 to 65535, the first not above the last")
    if high - low >= MOST_ENDPOINTS:
        raise ConfigurationError(f"{text}: more than {MOST_ENDPOINTS} ports")
    return [TcpTarget(host=host, port=port) for port in range(low, high + 1)]


def _network(text: str) -> list[Target]:
    try:
        network = ipaddress.IPv4Network(text, strict=False)
    except ValueError as error:
        raise ConfigurationError(f"{text[:80]}: not a network: {error}") from error
    if network.num_addresses > 256:
        raise ConfigurationError(f"{text}: {network.num_addresses} addresses; at most 256 (a /24) are looked at")
    return [TcpTarget(host=str(address), port=PORT) for address in network.hosts()]


def _number(text: str, whole: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 5:
        raise ConfigurationError(f"{whole[:80]}: {text[:20]!r} is not a {what}")
    return int(text)
