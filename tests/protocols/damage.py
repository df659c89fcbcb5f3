"""Messages that were damaged on purpose, or were never meant to be messages."""

from __future__ import annotations

import random

import msgspec

from protocols.bus import BusMessage

NUMBERS = (b"1e999", b"-1e999", b"NaN", b"null", b"-0.0", b"9" * 400, b"[]", b'"\\ud800"', b"true", b"{}")


def damaged(rng: random.Random, message: BusMessage) -> BusMessage:
    """One to three blows against topic, payload or signature."""
    for _ in range(rng.randrange(1, 4)):
        match rng.randrange(6):
            case 0:
                message = msgspec.structs.replace(message, payload=_bytes(rng, message.payload))
            case 1:
                message = msgspec.structs.replace(message, payload=_number(rng, message.payload))
            case 2:
                levels = message.topic.split("/")
                levels[rng.randrange(len(levels))] = rng.choice(["", "..", "+", "node", "h1", "x" * 300, "\u00e9", "coordinator", "$SYS"])
                message = msgspec.structs.replace(message, topic="/".join(levels))
            case 3:
                name = rng.choice(["sig", "key", "other"])
                properties = {**message.properties, name: rng.choice(["", "=", "A" * 86 + "==", "\u0000", "é" * 50, "x" * 5000])}
                message = msgspec.structs.replace(message, properties=properties)
            case 4:
                message = msgspec.structs.replace(message, properties={})
            case _:
                message = msgspec.structs.replace(message, payload=rng.randbytes(rng.randrange(64)), retain=rng.random() < 0.5)
    return message


def _bytes(rng: random.Random, payload: bytes) -> bytes:
    data = bytearray(payload)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(3):
            case 0:
                data[at:at] = rng.randbytes(rng.randrange(1, 30))
            case 1:
                del data[at : at + rng.randrange(1, 30)]
            case _:
                data[at:at] = rng.choice([b"[" * 2000, b'{"a":' * 500, b'"', b"\\", b","])
    return bytes(data)


def _number(rng: random.Random, payload: bytes) -> bytes:
    """Another value in the place of one."""
    parts = payload.split(b":")
    at = rng.randrange(len(parts))
    head, comma, tail = parts[at].partition(b",")
    parts[at] = rng.choice(NUMBERS) + comma + tail if comma else head
    return b":".join(parts)
