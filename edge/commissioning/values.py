"""What commissioning finds, as values."""

from __future__ import annotations

from typing import Literal

import msgspec

from edge.devices.mapping import Capabilities
from edge.devices.registry import DeviceConfig
from edge.values import DeviceKind, Reading


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One device in one role, with the section that configures it. `also` are things about it that an installer should know."""

    identity: str
    config: DeviceConfig
    capabilities: Capabilities
    reading: Reading
    also: tuple[str, ...] = ()

    @property
    def kind(self) -> DeviceKind:
        """Its role."""
        return self.config.kind

    @property
    def where(self) -> str:
        """Address and unit in words."""
        unit = 1 if self.config.unit is None else self.config.unit
        return f"{self.config.endpoint()} unit {unit}"


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """A place that answered nothing usable, and why."""

    where: str
    why: str


class SignFinding(msgspec.Struct, frozen=True, kw_only=True):
    """Which way the meter counts: `sign` makes import positive; None where that could not be found out, and `why`."""

    sign: Literal[1, -1] | None
    why: str


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a scan came to. `unused` are devices that no configuration can take, each with its reason."""

    found: tuple[Found, ...]
    unused: tuple[Silence, ...] = ()
    silent: tuple[Silence, ...] = ()
