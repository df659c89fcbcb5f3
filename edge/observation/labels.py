"""Names of devices for whoever watches: kind and number. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from edge.values import DeviceKind


def device_labels(devices: Sequence[tuple[str, DeviceKind]]) -> dict[str, tuple[str, DeviceKind]]:
    """Kind and number of each device by its configured name: a name that somebody typed does not leave the house."""
    labels: dict[str, tuple[str, DeviceKind]] = {}
    counts = dict.fromkeys(DeviceKind, 0)
    for name, kind in devices:
        counts[kind] += 1
        labels[name] = (f"{kind.value}_{counts[kind]}", kind)
    return labels
