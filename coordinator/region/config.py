"""The configuration of a region's coordinator: one TOML file, decoded once into one frozen value. Nothing is corrected silently."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from coordinator.config import FilePath, Section
from coordinator.errors import ConfigError
from protocols.documents import DocumentRefused, decode_toml
from protocols.mqtt_bus import MqttSettings, with_files_beside
from protocols.units import Fraction, Identifier


class RegionIdentity(Section, frozen=True, kw_only=True):
    """Which region, and the private key that signs its epochs."""

    region: Identifier
    key_file: FilePath


class CommunityEntry(Section, frozen=True, kw_only=True):
    """A community of the region, and the public keys with which its coordinator signs its epochs."""

    name: Identifier
    coordinator_keys: Annotated[tuple[FilePath, ...], Meta(min_length=1, max_length=8)]


class RegionConfig(Section, frozen=True, kw_only=True):
    """The first regional epoch begins when every community has a proven leader, or after `founding_s` with at least two; another one
    whenever a community has another leader, `settle_s` after that became known. The last number lies in the file `state`."""

    identity: RegionIdentity
    communities: Annotated[tuple[CommunityEntry, ...], Meta(min_length=2, max_length=1000)]
    reputation_min: Fraction = 0.4
    founding_s: Annotated[float, Meta(ge=0.0, le=30 * 86400.0)] = 600.0
    settle_s: Annotated[float, Meta(ge=0.0, le=3600.0)] = 2.0
    state: FilePath = "region.json"
    broker: MqttSettings = MqttSettings()


def load_region(path: Path) -> RegionConfig:
    """Read and check a configuration, with every relative path taken from its folder. Raises `ConfigError` with one line."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error} - at $") from error
    config = decode_region(text, str(path))
    folder = path.parent
    return msgspec.structs.replace(
        config,
        identity=msgspec.structs.replace(config.identity, key_file=str(folder / config.identity.key_file)),
        communities=tuple(
            msgspec.structs.replace(entry, coordinator_keys=tuple(str(folder / file) for file in entry.coordinator_keys))
            for entry in config.communities
        ),
        state=str(folder / config.state),
        broker=with_files_beside(config.broker, folder),
    )


def decode_region(text: bytes, where: str) -> RegionConfig:
    """Decode and check a configuration; `where` names it in errors."""
    try:
        config = decode_toml(text, RegionConfig)
    except DocumentRefused as refusal:
        raise ConfigError(f"{where}: {refusal}") from refusal
    names = [entry.name for entry in config.communities]
    for index, name in enumerate(names):
        if names.index(name) != index:
            raise ConfigError(f"{where}: community {name!r} is named twice - at $.communities[{index}].name")
    if config.identity.region in names:
        raise ConfigError(
            f"{where}: the region must not be called like one of its communities, {config.identity.region!r} - at $.identity.region"
        )
    return config
