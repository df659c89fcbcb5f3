"""The parts of a coordinator, read from what its configuration names. A shell: it reads files and opens the store."""

from __future__ import annotations

from pathlib import Path

import msgspec

from coordinator.config import CoordinatorConfig, check_nodes
from coordinator.errors import ConfigError
from coordinator.network.cases import CASES, load
from coordinator.network.model import Network
from coordinator.network.validate import require_valid
from coordinator.page.settings import page_beside
from coordinator.store import Store
from protocols.keys import load_private_key, load_public_key
from protocols.mqtt_bus import with_files_beside
from protocols.signing import Signer, Verifier

SQLITE_FILE = "sqlite:///"


def beside(config: CoordinatorConfig, folder: Path) -> CoordinatorConfig:
    """The same configuration with every relative path taken from `folder`, where its file lies."""
    identity, feeder, store = config.identity, config.feeder, config.store
    key_file = None if identity.key_file is None else str(folder / identity.key_file)
    network = feeder.network if feeder.network in CASES else str(folder / feeder.network)
    relative = store.url.startswith(SQLITE_FILE) and store.url != SQLITE_FILE
    url = f"{SQLITE_FILE}{folder / store.url.removeprefix(SQLITE_FILE)}" if relative else store.url
    nodes = tuple(msgspec.structs.replace(node, key_files=tuple(str(folder / file) for file in node.key_files)) for node in config.nodes)
    aggregation = msgspec.structs.replace(
        config.aggregation,
        key_file=str(folder / config.aggregation.key_file),
        passphrase_file=str(folder / config.aggregation.passphrase_file),
    )
    return msgspec.structs.replace(
        config,
        aggregation=aggregation,
        identity=msgspec.structs.replace(identity, key_file=key_file),
        feeder=msgspec.structs.replace(feeder, network=network),
        store=msgspec.structs.replace(store, url=url),
        nodes=nodes,
        broker=with_files_beside(config.broker, folder),
        page=page_beside(config.page, folder),
    )


def read_network(config: CoordinatorConfig) -> Network:
    """The configured network with the configured voltage limits, valid, and with a connection for every node."""
    feeder = config.feeder
    network = require_valid(load(feeder.network, vmin_pu=feeder.vmin_pu, vmax_pu=feeder.vmax_pu))
    problem = check_nodes(config, network)
    if problem is not None:
        raise ConfigError(problem)
    return network


def read_signer(config: CoordinatorConfig) -> Signer:
    """The coordinator's private key."""
    if config.identity.key_file is None:
        raise ConfigError("key_file is needed to sign what is published - at $.identity.key_file")
    return Signer(load_private_key(Path(config.identity.key_file)))


def read_verifier(config: CoordinatorConfig) -> Verifier:
    """The nodes' public keys; a node without one could never be heard."""
    for index, node in enumerate(config.nodes):
        if not node.key_files:
            raise ConfigError(f"node {node.name} has no key_files, so nothing it says can be verified - at $.nodes[{index}].key_files")
    keys = {node.name: [load_public_key(Path(file)) for file in node.key_files] for node in config.nodes}
    return Verifier(config.identity.community, keys)


def open_store(config: CoordinatorConfig) -> Store:
    """The configured store."""
    return Store(config.store.url, buffer_rows=config.store.buffer_rows)
