"""Errors of the protocols package: one root, one subclass for each cause.

`Refusal` and its subclasses name why a message was not accepted. They carry the topic, so that a log line says what was refused
and where; the payload itself never appears in them, because it may be private.
"""

from __future__ import annotations


class ProtocolError(Exception):
    """Root of everything that the protocols package raises."""


class TopicError(ProtocolError):
    """A topic or one of its levels does not follow the grammar of `protocols.topics`."""


class BusError(ProtocolError):
    """The transport cannot do what was asked (not started, queue full, broker refused)."""


def one_line(text: str, most: int = 500) -> str:
    """The text as one line of at most `most` printable characters; what is none becomes a question mark."""
    clean = "".join(character if character.isprintable() else "?" for character in text[:most])
    return clean if len(text) <= most else clean[:-1] + "…"


class Refusal(ProtocolError):
    """A received message is not accepted; `reason` says why in words, `topic` says where.

    Both may quote what a stranger has chosen, the name of a field for instance; the words are one line that no terminal obeys.
    """

    def __init__(self, reason: str, *, topic: str) -> None:
        reason = one_line(reason)
        super().__init__(f"{reason} (topic {one_line(topic)})")
        self.reason = reason
        self.topic = topic


class Malformed(Refusal):
    """The payload is not one canonical document of a known type, or a field is out of its bounds."""


class Unsigned(Refusal):
    """A signature is required here and none is given."""


class UnknownSender(Refusal):
    """The named signing key is not among the keys that the receiver trusts for this topic."""


class BadSignature(Refusal):
    """The signature does not verify over this topic and exactly these bytes."""


class Replayed(Refusal):
    """The sequence number was accepted before, or lies below the replay window."""


class Stale(Refusal):
    """The message was made too long ago, or too far in the future, for what it says."""
