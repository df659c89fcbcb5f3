"""One codec: canonical JSON of the tagged messages.

Exactly one encoding of each message is accepted: what decodes but does not encode to the same bytes (duplicate keys, white space,
other number forms, other key order) is refused. Encoding checks its own result, because msgspec constructors check nothing and a
NaN would leave as `null`: a sender cannot send what a receiver would refuse.
"""

from __future__ import annotations

import msgspec

from protocols.errors import Malformed
from protocols.messages import AnyMessage

MAX_PAYLOAD_BYTES = 256 * 1024
"""Above any message that the types allow; a larger payload is refused before it is parsed."""

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyMessage] = msgspec.json.Decoder(AnyMessage)


def encode(message: AnyMessage, *, topic: str = "") -> bytes:
    """Canonical bytes of the message. Raises `Malformed` for one that breaks its own type (NaN, a bound, a wrong length,
    a text that is not Unicode).

    A whole number in a field of type float is encoded as the float that it means: 1500 W leaves as 1500.0, as a receiver would say it.
    """
    try:
        payload = _encoder.encode(message)
    except UnicodeEncodeError as error:
        raise Malformed(f"cannot be written as JSON: {error}", topic=topic) from error
    return _encoder.encode(_decoded(payload, topic))


def decode(payload: bytes, *, topic: str = "") -> AnyMessage:
    """The message that these bytes are the canonical encoding of. Raises `Malformed`, which names field and bound."""
    message = _decoded(payload, topic)
    if _encoder.encode(message) != payload:
        raise Malformed("not the canonical encoding of its content", topic=topic)
    return message


def _decoded(payload: bytes, topic: str) -> AnyMessage:
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise Malformed(f"payload of {len(payload)} bytes: at most {MAX_PAYLOAD_BYTES} are read", topic=topic)
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error), topic=topic) from error
