"""Who may log in to the page, as one text that Mosquitto and the page's server both read: `NAME:$7$ITERATIONS$SALT$HASH`.

The form is that of Mosquitto's password file, PBKDF2-HMAC-SHA512 over a salt of its own for each name (mosquitto_passwd, `$7$`). Tokens
are 256 random bits, which no number of iterations makes easier or harder to guess, so the iterations are Mosquitto's own default. A
shell: it draws them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from coordinator.errors import EnrolmentError
from protocols.files import read_private

ITERATIONS: Final = 101
SALT_BYTES: Final = 12
MAX_FILE_BYTES: Final = 4 * 1024 * 1024
MAX_TOKEN_CHARACTERS: Final = 200
_LINE: Final = re.compile(r"((?:admin\.)?[A-Za-z0-9][A-Za-z0-9_-]{0,63}):(\$7\$[0-9]{1,6}\$[A-Za-z0-9+/=]{8,64}\$[A-Za-z0-9+/=]{88})")
_NOBODY: Final = f"$7${ITERATIONS}${base64.b64encode(bytes(SALT_BYTES)).decode()}${base64.b64encode(bytes(64)).decode()}"


def token_hash(token: str) -> str:
    """A salted hash of a token, as Mosquitto writes it."""
    return _hash(token, secrets.token_bytes(SALT_BYTES), ITERATIONS)


def is_token(tokens: Mapping[str, str], name: str, token: str) -> bool:
    """Whether this is the token of this name; a name that nobody has takes as long."""
    kept = tokens.get(name, _NOBODY)
    _, _, iterations, salt, _ = kept.split("$")
    try:
        salt_bytes = base64.b64decode(salt, validate=True)
    except binascii.Error:
        return False
    same = hmac.compare_digest(_hash(token[:MAX_TOKEN_CHARACTERS], salt_bytes, int(iterations)), kept)
    return same and name in tokens and len(token) <= MAX_TOKEN_CHARACTERS


def tokens_text(tokens: Mapping[str, str]) -> str:
    """The file."""
    return "".join(f"{name}:{kept}\n" for name, kept in sorted(tokens.items()))


def read_page_tokens(path: Path) -> dict[str, str]:
    """What the file says. Raises `EnrolmentError` for a line that is none, `FileRefused`."""
    tokens: dict[str, str] = {}
    text = read_private(path, MAX_FILE_BYTES).decode("ascii", "replace")
    for number, line in enumerate(text.splitlines(), start=1):
        found = _LINE.fullmatch(line)
        if found is None:
            raise EnrolmentError(f"{path} line {number}: expected NAME:$7$ITERATIONS$SALT$HASH")
        tokens[found[1]] = found[2]
    return tokens


def _hash(token: str, salt: bytes, iterations: int) -> str:
    digest = hashlib.pbkdf2_hmac("sha512", token.encode("utf-8", "replace"), salt, max(iterations, 1))
    return f"$7${iterations}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
