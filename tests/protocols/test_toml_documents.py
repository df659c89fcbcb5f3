"""What people write in TOML is decoded, or refused in one line: what is wrong, what was found, and where."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.documents import DocumentRefused, decode_toml


class Room(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    area_m2: Annotated[float, msgspec.Meta(gt=0.0, le=1000.0)] = 1.0


class House(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rooms: tuple[Room, ...]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'[[rooms]]\nname = "hall"\narea_m2 = -2\n', "Expected float > 0.0, got -2 - at $.rooms[0].area_m2"),
        (b"[[rooms]]\nname = 3\n", "Expected str, got int - at $.rooms[0].name"),
        (b'[[rooms]]\nname = "hall"\ncolour = "red"\n', "Object contains unknown field colour - at $.rooms[0]"),
        (b"", "Object missing required field rooms - at $"),
        (b"rooms = [", "not TOML: "),
        (b"\xff", "not TOML: "),
        (b"a = " + b"[" * 5000, "not TOML: "),
    ],
)
def test_what_is_wrong_is_one_line_that_ends_in_its_place(text: bytes, words: str) -> None:
    with pytest.raises(DocumentRefused) as caught:
        decode_toml(text, House)
    said = str(caught.value)
    assert said.startswith(words) and " - at $" in said and "\n" not in said


def test_a_document_that_is_right_is_decoded() -> None:
    assert decode_toml(b'[[rooms]]\nname = "hall"\narea_m2 = 20\n', House) == House(rooms=(Room(name="hall", area_m2=20.0),))


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_else(text: bytes) -> None:
    try:
        decode_toml(text, House)
    except DocumentRefused as refusal:
        assert "\n" not in str(refusal) and len(str(refusal)) < 600
