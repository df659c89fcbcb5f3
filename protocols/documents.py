"""TOML that people write: decoded into a type, or refused in one line that says what is wrong, what was found, and where."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from protocols.errors import ProtocolError, one_line

Document = TypeVar("Document")


class DocumentRefused(ProtocolError):
    """The text is not TOML, or not a document of the type that was asked for."""


def decode_toml(text: bytes, kind: type[Document]) -> Document:
    """The document. Raises `DocumentRefused`, whose words end in the place: `message - at $.path`."""
    try:
        return msgspec.toml.decode(text, type=kind)
    except msgspec.ValidationError as error:
        raise DocumentRefused(_in_one_line(str(error), text)) from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise DocumentRefused(f"not TOML: {one_line(str(error))} - at $") from error


def _in_one_line(message: str, text: bytes) -> str:
    """What msgspec says, with the value that was found where the path leads to one."""
    what, _, path = message.replace("`", "").partition(" - at ")
    value: Any = msgspec.toml.decode(text)
    for key, index in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        value = value.get(key) if isinstance(value, dict) else value[int(index)] if isinstance(value, list) and index else None
    found = f", got {value!r}" if isinstance(value, str | int | float) and "got" not in what and repr(value) not in what else ""
    return f"{one_line(what + found, 300)} - at {one_line(path, 200) if path else '$'}"
