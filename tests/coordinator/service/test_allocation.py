"""Boxes of the coincident class: a default that is safe must leave its own intervals feasible."""

from __future__ import annotations

import msgspec
import pytest

from coordinator.allocation import Allocator, Box
from coordinator.config import CoordinatorConfig
from protocols.messages import Guarantee
from tests.coordinator.service.service_world import settings, street


def coincident(background_w: float, import_w: float) -> CoordinatorConfig:
    config = settings()
    envelopes = msgspec.structs.replace(config.envelopes, guarantee=Guarantee.COINCIDENT, background_w=background_w)
    defaults = msgspec.structs.replace(config.defaults, import_w=import_w, export_w=9000.0)
    return msgspec.structs.replace(config, envelopes=envelopes, defaults=defaults)


@pytest.mark.parametrize("import_w", [3000.0, 9000.0, 14_000.0])
def test_every_interval_can_keep_a_verified_default(import_w: float) -> None:
    """Where the floor of import passed for what homes draw while others export, no interval with a large default was feasible."""
    allocator = Allocator(coincident(500.0, import_w), street())
    default = allocator.default_box()
    assert isinstance(default, Box)
    box = allocator.box(default.limits, default.limits)
    assert isinstance(box, Box)
    assert all(box.limits[node].import_w >= pair.import_w for node, pair in default.limits.items())
