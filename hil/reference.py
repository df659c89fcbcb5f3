"""The references of the documentation, made from the code: `python -m hil.reference docs` writes `topics.md` and `metrics.md`. Pure but
for that; a test keeps the files equal to what is made here.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect as types

from coordinator.observation import catalogue as coordinator_catalogue
from edge.correspondence import EXPIRY_S
from edge.home_assistant.discovery import ROOT as HOME_ROOT
from edge.observation import catalogue as edge_catalogue
from protocols import topics
from protocols.messages import TYPE_OF_KIND, Message
from protocols.observation.book import PROCESS_FAMILIES, Family
from protocols.observation.settings import MetricsSection
from protocols.signing import MAX_AGE_S, MAX_FUTURE_S

MADE: Final = "<!-- Made by `python -m hil.reference docs` from the code: change that, not this. -->"
COMMON: Final = ("sender", "time_s", "sequence")

TOPICS_HEAD: Final = """\
# Topics and messages

MQTT 5 below `commonwatt/1/<community>/`. Payloads are canonical JSON, one document each, with the field names below; `type` names the
message. An Ed25519 signature over topic and bytes travels in the user properties `sig` and `key`. Whoever may subscribe can read; nobody
believes what is not signed by the topic's owner. Everything is sent at QoS 1.
"""

METRICS_HEAD: Final = """\
# Figures and health

Edge and coordinator serve `/metrics` (Prometheus) and `/health` (JSON) where their configuration says so:

```toml
[metrics]
enabled = true
host = "127.0.0.1"              # another address needs a token_file
port = {port}
# token_file = "metrics.token"  # mode 0600; Prometheus: authorization: {{ credentials_file: ... }}
```

`/health` answers 200 with `"status": "pass"` or `"warn"`, and 503 with `"fail"`; `output` says what is wrong in one line and `checks`
what was looked at, as in the internet draft draft-inadarei-api-health-check. Alert rules and a configuration for Prometheus are in
`deploy/prometheus`, dashboards for Grafana in `deploy/grafana`. A gauge whose value is not known is not a number, never zero. Labels
are kinds, states and numbers; a household appears by its node's name alone.
"""


def topics_document() -> str:
    """`docs/topics.md`."""
    table = "\n".join(line for line in (topics.__doc__ or "").splitlines() if line.startswith("|"))
    rules = (topics.__doc__ or "").split("\n\n")[-1].strip()
    parts = [MADE, "", TOPICS_HEAD, "## Topics", "", table, "", rules, "", "## Messages", "", _common_words()]
    for kind, message in sorted(TYPE_OF_KIND.items()):
        parts += ["", *_message(kind, message)]
    parts += ["", "## Parts of messages", ""]
    for part in sorted(_parts(), key=lambda struct: struct.__name__):
        parts += [*_part(part), ""]
    parts += _home()
    return "\n".join(parts) + "\n"


def metrics_document() -> str:
    """`docs/metrics.md`."""
    parts = [MADE, "", METRICS_HEAD.format(port=MetricsSection().port)]
    for title, families in (
        ("Edge", edge_catalogue.FAMILIES),
        ("Coordinator", coordinator_catalogue.FAMILIES),
        ("Both", PROCESS_FAMILIES),
    ):
        parts += [f"## {title}", "", "| figure | kind | labels | what it says |", "|---|---|---|---|", *_rows(families), ""]
    return "\n".join(parts)


def _common_words() -> str:
    return (
        "Every message has `type`, `sender` (the name that owns the topic), `time_s` (Unix seconds) and `sequence`, which grows with every"
        f" message of a sender on a topic. What is more than {MAX_FUTURE_S:.0f} s in the future, was accepted before, or is older than its"
        " message allows is refused. Power is positive into the thing named; limits are magnitudes; null means not known, never zero."
    )


def _message(kind: str, message: type[Message]) -> Iterator[str]:
    info = _struct(message)
    yield f"### `{info.tag}` (topic kind `{kind}`)"
    yield ""
    yield inspect.cleandoc(message.__doc__ or "")
    facts = []
    if message in MAX_AGE_S:
        facts.append(f"accepted for {_duration(MAX_AGE_S[message])}")
    if kind in EXPIRY_S:
        facts.append(f"expires at the broker after {_duration(EXPIRY_S[kind])}")
    if facts:
        yield ""
        yield f"{'; '.join(facts).capitalize()}."
    yield from _fields(info)


def _part(part: type[msgspec.Struct]) -> Iterator[str]:
    info = _struct(part)
    yield f"### `{part.__name__}`{f' (`{info.tag_field}`: `{info.tag}`)' if info.tag is not None else ''}"
    yield ""
    yield inspect.cleandoc(part.__doc__ or "")
    yield from _fields(info)


def _fields(info: types.StructType) -> Iterator[str]:
    fields = [field for field in info.fields if field.name not in COMMON or not issubclass(info.cls, Message)]
    if fields:
        yield ""
        yield "| field | type | if absent |"
        yield "|---|---|---|"
        for field in fields:
            yield f"| `{field.encode_name}` | {_words(field.type)} | {_absent(field)} |"


def _parts() -> set[type[msgspec.Struct]]:
    """Every structure that messages are made of."""
    found: set[type[msgspec.Struct]] = set()
    waiting = [field.type for message in TYPE_OF_KIND.values() for field in _struct(message).fields]
    while waiting:
        match waiting.pop():
            case types.UnionType(types=members):
                waiting += members
            case types.Metadata(type=inner) | types.VarTupleType(item_type=inner):
                waiting.append(inner)
            case types.StructType(cls=cls, fields=fields) if cls not in found:
                found.add(cls)
                waiting += [field.type for field in fields]
            case _:
                pass
    return found


def _struct(part: type[msgspec.Struct]) -> types.StructType:
    info = types.type_info(part)
    assert isinstance(info, types.StructType)
    return info


def _absent(field: types.Field) -> str:
    if field.default is not msgspec.NODEFAULT:
        return f"`{msgspec.json.encode(field.default).decode()}`"
    return "required" if field.required else "not said"


def _words(kind: types.Type) -> str:
    """A type in a few words, with its bounds."""
    match kind:
        case types.UnionType(types=members):
            return " or ".join(_words(member) for member in members)
        case types.Metadata(type=inner):
            return _words(inner)
        case types.IntType() | types.FloatType():
            return f"{'whole number' if isinstance(kind, types.IntType) else 'number'}{_bounds(kind)}"
        case types.StrType():
            return f"text{f' of at most {kind.max_length}' if kind.max_length is not None else ''}{_pattern(kind.pattern)}"
        case types.VarTupleType(item_type=item, max_length=longest):
            return f"list of {_words(item)}{f', at most {longest}' if longest is not None else ''}"
        case types.EnumType(cls=cls):
            return "one of " + ", ".join(f"`{member.value}`" for member in cls)
        case types.LiteralType(values=values):
            return "one of " + ", ".join(f"`{value}`" for value in values)
        case types.StructType(cls=cls):
            return f"`{cls.__name__}`"
        case types.NoneType():
            return "null"
        case _:
            return type(kind).__name__.removesuffix("Type").lower()


def _bounds(kind: types.IntType | types.FloatType) -> str:
    low = f"{'>=' if kind.ge is not None else '>'} {_number(kind.ge if kind.ge is not None else kind.gt)}"
    high = f"{'<=' if kind.le is not None else '<'} {_number(kind.le if kind.le is not None else kind.lt)}"
    bounds = [text for text in (low, high) if not text.endswith("None")]
    return f" {', '.join(bounds)}" if bounds else ""


def _number(value: float | None) -> str:
    if value is None:
        return "None"
    return str(int(value)) if float(value).is_integer() else f"{value:g}"


def _pattern(pattern: str | None) -> str:
    return "" if pattern is None else f" like `{pattern}`".replace("|", "\\|")


def _duration(duration_s: float) -> str:
    for unit_s, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if duration_s >= unit_s and duration_s % unit_s == 0.0:
            return f"{duration_s / unit_s:.0f} {unit}"
    return f"{duration_s:g} s"


def _home() -> list[str]:
    return [
        "## In the home",
        "",
        "On the household's own broker, where `[home_assistant]` is configured, and not signed: it commands nothing.",
        "",
        "| topic | retained | content |",
        "|---|---|---|",
        "| `<prefix>/device/commonwatt_<community>_<node>/config` | yes | Home Assistant's device discovery; empty removes the device |",
        f"| `{HOME_ROOT}/<community>/<node>/state` | no | one JSON document with the state of every entity |",
        f"| `{HOME_ROOT}/<community>/<node>/availability` | yes | `online`; `offline` as last will |",
        "| `<prefix>/status` | | read: everything is said again at `online` |",
    ]


def _rows(families: Sequence[Family]) -> Iterator[str]:
    for family in families:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        yield f"| `{family.name}` | {family.kind} | {labels} | {family.words} |"


DOCUMENTS: Final[dict[str, Any]] = {"topics.md": topics_document, "metrics.md": metrics_document}


def main() -> None:
    """Write every reference into a folder."""
    for name, make in DOCUMENTS.items():
        (Path(sys.argv[1]) / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
