"""Configuration values written out as TOML, for processes that read files. Reading back gives an equal value; None is left out."""

from __future__ import annotations

import json
from typing import Any

import msgspec


def toml_text(config: msgspec.Struct) -> str:
    """The struct as a TOML document: one key of the root on each line, tables inline."""
    fields = msgspec.to_builtins(config)
    return "".join(f"{name} = {_value(value)}\n" for name, value in fields.items() if value is not None)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        inside = ", ".join(f"{json.dumps(name)} = {_value(item)}" for name, item in value.items() if item is not None)
        return f"{{ {inside} }}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)
