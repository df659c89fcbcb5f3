"""What the drivers need from a Modbus connection: a small protocol, and how patient its implementation is.

`edge.devices.modbus` implements it over pymodbus; the bench supplies one that reaches its simulated devices in memory.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec


class RegisterClient(Protocol):
    """Reads and writes holding registers; what a SunSpec device needs."""

    async def read_holding(self, unit: int, address: int, count: int) -> tuple[int, ...]:
        """Exactly `count` registers, function 3."""

    async def write_holding(self, unit: int, address: int, values: Sequence[int]) -> None:
        """Function 16, acknowledged for exactly these registers."""

    async def close(self) -> None:
        """Give the session back."""


class FieldbusClient(RegisterClient, Protocol):
    """A register client that has the two further functions some profiles need."""

    async def read_input(self, unit: int, address: int, count: int) -> tuple[int, ...]:
        """Exactly `count` input registers, function 4."""

    async def write_single(self, unit: int, address: int, value: int) -> None:
        """Function 6."""


class TransportOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How patient the client is. `gap_s` is the silence between two requests; `late_s` is how late an RTU answer may still come."""

    timeout_s: float = 1.0
    retries: int = 1
    gap_s: float = 0.0
    late_s: float = 1.0
    backoff_s: float = 0.5
    backoff_max_s: float = 30.0


class SerialLine(msgspec.Struct, frozen=True, kw_only=True):
    """A serial port and its line settings."""

    port: str
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1
