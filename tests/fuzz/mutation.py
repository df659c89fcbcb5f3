"""Bad input from good input: a seeded mutator for bytes and text, and what every boundary must answer.

It mixes what parsers fear (cut and doubled pieces, deep nesting, huge and strange numbers, bytes that are no text) with small changes to
documents that are nearly right, which get furthest into the code behind a parser.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence

import pytest

SLICE = 500
WHOLE = 10_000
SEED = int(os.environ.get("FUZZ_SEED", "1"))

TOKENS = (
    b"", b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\r\n", b"\r\n\r\n", b"\n", b"'", b'"', b"{", b"}", b"[", b"]", b"[[", b",", b":", b"=",
    b"\\", b"%00", b"../" * 8, b"null", b"true", b"NaN", b"nan", b"inf", b"-inf", b"1e999", b"-0.0", b"0", b"-1", b"1e308", b"9" * 26,
    b"0x10", b"1_0", b"4294967296", b"9007199254740993", b"-9223372036854775809", b"0.1e-400", b"{}", b"[]", b'""', b"$ne", b"<script>",
    b"\xf0\x9f\x94\x8b", b"A" * 5000, b"[" * 2000, b'{"a":' * 500, b"\x1b[2J", b"1979-05-27T07:32:00Z", b"+", b"#", b"/", b"$SYS",
)  # fmt: skip

NUMBERS = (
    b"0", b"-1", b"1e9", b"-1e9", b"1e308", b"1e400", b"0.0", b"65536", b"0.5", b"-0.0", b"2e-308", b"18446744073709551616", b"3.7", b"nan",
)  # fmt: skip

boundary = pytest.mark.parametrize("count", [SLICE, pytest.param(WHOLE, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
"""A bounded slice by default, the whole number with `-m slow`."""


def mutations(good: Sequence[bytes], count: int, *, seed: int = SEED) -> Iterator[bytes]:
    """`count` inputs, each made from one of the good ones; the first few are random bytes."""
    rng = random.Random(seed)
    for number in range(count):
        if number % 50 == 0:
            yield rng.randbytes(rng.randrange(0, 600))
            continue
        data = bytearray(rng.choice(good))
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
            _mutate(data, rng, good)
        yield bytes(data[:200_000])


def _mutate(data: bytearray, rng: random.Random, good: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    upto = min(len(data), at + rng.choice((1, 1, 2, 4, 16, 64, 400)))
    match rng.randrange(8):
        case 0:
            data[at:upto] = b""
        case 1:
            data[at:upto] = rng.choice(TOKENS)
        case 2:
            data[at:at] = rng.choice(TOKENS)
        case 3 if at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        case 4:
            data[at:at] = data[at:upto] * rng.choice((1, 2, 40))
        case 5:
            other = rng.choice(good)
            cut = rng.randrange(len(other) + 1)
            data[at:upto] = other[cut : cut + rng.choice((4, 40, 400))]
        case 6:
            _new_number(data, rng)
        case _:
            del data[at:]


def _new_number(data: bytearray, rng: random.Random) -> None:
    """One number of the text becomes another one: the mutation that passes parsers and reaches rules."""
    digits = [index for index, byte in enumerate(data) if 48 <= byte <= 57]
    if not digits:
        return
    begin = end = rng.choice(digits)
    while begin > 0 and data[begin - 1] in b"0123456789.-+e":
        begin -= 1
    while end < len(data) and data[end] in b"0123456789.-+e":
        end += 1
    data[begin:end] = rng.choice(NUMBERS)


def is_one_line(text: str) -> bool:
    """A reason that a person reads: something is said, in one line, without what a terminal would obey."""
    return 0 < len(text) <= 1000 and all(character.isprintable() for character in text)
