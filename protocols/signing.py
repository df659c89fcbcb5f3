"""All rules of trust in one place, without input or output.

A payload stays the readable JSON document that it is; the Ed25519 signature travels beside it in two MQTT 5 user properties, `sig`
(base64url) and `key` (fingerprint of the signing key). The rules, each with its own refusal:

1. The topic follows the grammar, and exactly one name owns it (`Malformed`).
2. A signature is there (`Unsigned`), made by a key that the receiver trusts for that owner (`UnknownSender`).
3. It verifies over the exact bytes received, bound to the topic: nothing is decoded before that, nothing re-encoded for it
   (`BadSignature`). A message that is moved to another topic does not verify.
4. The document decodes canonically, its type belongs to the topic's kind and its sender owns the topic (`Malformed`).
5. It is neither from the future nor older than its type allows (`Stale`). State that holds until it is changed does not age.
6. Its sequence number was not accepted before on this topic and is not below the window (`Replayed`). Windows can be saved and
   restored, so that a restart opens no door.

A refused message changes nothing in the receiver. The last will is signed when the connection is made, hours before the broker
publishes it, so an `offline` status has a window of its own: it is accepted once, however many other statuses came in between.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocols import codec
from protocols.bus import BusMessage
from protocols.errors import BadSignature, Malformed, Replayed, Stale, TopicError, UnknownSender, Unsigned
from protocols.keys import key_id
from protocols.messages import (
    TYPE_OF_KIND,
    Accusation,
    AnyMessage,
    ControlResponse,
    EnvelopeSchedule,
    FlexibilityDeclaration,
    Forecast,
    MarketAnswer,
    MarketAsk,
    Plan,
    SafetyState,
    Status,
    Telemetry,
    Verdict,
)
from protocols.topics import owner

_CONTEXT: Final = b"commonwatt/1 signed message\0"
_NAME_CONTEXT: Final = b"commonwatt/1 private name\0"

SIGNATURE_PROPERTY: Final = "sig"
KEY_PROPERTY: Final = "key"

MAX_FUTURE_S: Final = 60.0
"""How far a sender's clock may run ahead of the receiver's."""

MAX_AGE_S: Final[dict[type, float]] = {
    Telemetry: 7 * 86400.0,
    Forecast: 3600.0,
    Plan: 3600.0,
    FlexibilityDeclaration: 3600.0,
    EnvelopeSchedule: 86400.0,
    ControlResponse: 7 * 86400.0,
    MarketAsk: 600.0,
    MarketAnswer: 600.0,
    Accusation: 86400.0,
    Verdict: 86400.0,
}
"""Greatest age by type. Types that are absent (status, default control) are state and hold until they are replaced."""

WINDOW: Final = 64
"""Sequence numbers this far below the highest one are still accepted once (as in RFC 4303, section 3.4.3)."""


class ReplayWindow(msgspec.Struct):
    """Which of the last `WINDOW` sequence numbers up to `highest` were accepted; bit k stands for `highest - k`."""

    highest: int = -1
    seen: int = 0

    def is_new(self, sequence: int) -> bool:
        """Whether the number may still be accepted."""
        if sequence > self.highest:
            return True
        behind = self.highest - sequence
        return behind < WINDOW and not (self.seen >> behind) & 1

    def accept(self, sequence: int) -> None:
        """Mark the number as accepted."""
        if sequence > self.highest:
            shift = min(sequence - self.highest, WINDOW)
            self.seen = ((self.seen << shift) | 1) & ((1 << WINDOW) - 1)
            self.highest = sequence
        else:
            self.seen |= 1 << (self.highest - sequence)


class Sequencer:
    """Sequence numbers of one sender, growing on every topic and across restarts as long as the clock does not go back.

    A restart begins above `floor` (the last number known to be used, where the sender keeps it) and above the milliseconds of the
    clock, so neither a lost disk alone nor a wrong clock alone makes a number come again.
    """

    def __init__(self, now_s: float, *, floor: int = 0) -> None:
        self.last = max(int(now_s * 1000.0), floor)

    def next(self) -> int:
        """A number that was not used before."""
        self.last += 1
        return self.last


class Signer:
    """Seals messages with one private key. Its representation shows the key's fingerprint only."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key = key.public_key()
        self.key_id = key_id(self.public_key)

    def __repr__(self) -> str:
        return f"Signer({self.key_id})"

    def __reduce__(self) -> str:
        raise TypeError("a signer holds a private key and is not serialised")

    def private_name(self, purpose: str) -> str:
        """16 hexadecimal digits that nobody else can know: for MQTT client identifiers, by which anybody could take a session over.

        Ed25519 signatures are deterministic (RFC 8032), so the name is the same after a restart.
        """
        signature = self._key.sign(_NAME_CONTEXT + purpose.encode("utf-8"))
        return hashlib.sha256(signature).hexdigest()[:16]

    def sign(self, statement: bytes) -> bytes:
        """A signature over a statement that names what it is, in words of its own: never over bytes that somebody else has chosen."""
        return self._key.sign(statement)

    def seal(
        self, topic: str, message: AnyMessage, *, qos: int = 1, retain: bool = False, expiry_s: int | None = None
    ) -> BusMessage:
        """The message as signed bytes for this topic. Raises `Malformed` where the message breaks its own type."""
        payload = codec.encode(message, topic=topic)
        signature = self._key.sign(_signed_bytes(topic, payload))
        properties = {SIGNATURE_PROPERTY: base64.urlsafe_b64encode(signature).decode("ascii"), KEY_PROPERTY: self.key_id}
        return BusMessage(
            topic=topic, payload=payload, qos=qos, retain=retain, expiry_s=expiry_s, properties=properties
        )


class Verifier:
    """Opens sealed messages by the rules above, for one receiver."""

    def __init__(self, community: str, keys: Mapping[str, Sequence[Ed25519PublicKey]]) -> None:
        self._community = community
        self._keys: dict[str, dict[str, Ed25519PublicKey]] = {}
        self._windows: dict[str, ReplayWindow] = {}
        for name, public_keys in keys.items():
            self.trust(name, public_keys)

    def trust(self, name: str, public_keys: Sequence[Ed25519PublicKey]) -> None:
        """Replace the keys with which `name` may sign. An empty sequence revokes the name."""
        self._keys[name] = {key_id(key): key for key in public_keys}

    def open(self, message: BusMessage, now_s: float) -> AnyMessage:
        """The content of a sealed message, or the refusal of the first rule that it breaks."""
        topic = message.topic
        content = self.read(message)
        _check_age(content, topic, now_s)
        window = self._windows.setdefault(_window_name(topic, content), ReplayWindow())
        if not window.is_new(content.sequence):
            raise Replayed(f"sequence {content.sequence} was accepted before or is too old", topic=topic)
        window.accept(content.sequence)
        return content

    def read(self, message: BusMessage) -> AnyMessage:
        """The content of a message that was kept: who said it, by rules 1 to 4. Nothing is asked of its age, and nothing is remembered."""
        topic = message.topic
        try:
            community, name, kind = owner(topic)
        except TopicError as error:
            raise Malformed(str(error), topic=topic) from error
        if community != self._community:
            raise Malformed(f"community {community!r} is not {self._community!r}", topic=topic)
        self._verify(message, name)
        content = codec.decode(message.payload, topic=topic)
        if type(content) is not TYPE_OF_KIND[kind]:
            raise Malformed(f"a {type(content).__name__} does not belong on a topic of kind {kind!r}", topic=topic)
        if content.sender != name:
            raise Malformed(f"sender {content.sender!r} does not own this topic", topic=topic)
        return content

    def save_windows(self) -> bytes:
        """The replay windows as bytes, for the receiver's disk."""
        return msgspec.json.encode(self._windows)

    def restore_windows(self, data: bytes) -> None:
        """Take back what `save_windows` gave. Raises `Malformed` for anything else."""
        try:
            self._windows = msgspec.json.decode(data, type=dict[str, ReplayWindow])
        except msgspec.DecodeError as error:
            raise Malformed(f"saved replay windows: {error}", topic="") from error

    def _verify(self, message: BusMessage, name: str) -> None:
        signature_text = message.properties.get(SIGNATURE_PROPERTY)
        signing_key_id = message.properties.get(KEY_PROPERTY)
        if signature_text is None or signing_key_id is None:
            raise Unsigned("no signature", topic=message.topic)
        key = self._keys.get(name, {}).get(signing_key_id)
        if key is None:
            raise UnknownSender(f"key {signing_key_id[:16]!r} is not trusted for {name!r}", topic=message.topic)
        try:
            signature = base64.b64decode(signature_text, altchars=b"-_", validate=True)
            key.verify(signature, _signed_bytes(message.topic, message.payload))
        except (InvalidSignature, binascii.Error, ValueError) as error:
            raise BadSignature(f"signature by {name!r} does not verify", topic=message.topic) from error


def _window_name(topic: str, content: AnyMessage) -> str:
    is_will = isinstance(content, Status) and content.state is SafetyState.OFFLINE
    return f"{topic}#will" if is_will else topic


def _check_age(content: AnyMessage, topic: str, now_s: float) -> None:
    age_s = now_s - content.time_s
    if age_s < -MAX_FUTURE_S:
        raise Stale(f"made {-age_s:.0f} s in the future", topic=topic)
    limit_s = MAX_AGE_S.get(type(content))
    if limit_s is not None and age_s > limit_s:
        raise Stale(f"made {age_s:.0f} s ago; a {type(content).__name__} is accepted for {limit_s:.0f} s", topic=topic)


def _signed_bytes(topic: str, payload: bytes) -> bytes:
    topic_bytes = topic.encode("utf-8")
    return _CONTEXT + len(topic_bytes).to_bytes(2, "big") + topic_bytes + payload
