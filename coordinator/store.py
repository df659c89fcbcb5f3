"""What the coordinator remembers: telemetry, messages, envelopes, controls, responses and events, in SQLite or PostgreSQL. A shell.

Rows are only ever added (`state` alone keeps one value per name). What a node sent is identified by (node, sequence), so a message that is
delivered twice is stored once. Columns name their units.

Writing never stops the service. Rows wait in a bounded buffer until `flush` has brought them to the disk in one transaction; while the
disk is full or the database is away, `flush` raises StoreFullError or StoreError and keeps them. When the buffer itself is full the oldest
*measurements* make room, counted in `lost`, and the count is stored as an event as soon as the store can be written again; controls are
never dropped, and the service does not publish a control that is not stored.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from coordinator.errors import StoreError, StoreFullError

POSTGRESQL_DISK_FULL = "53100"
CHUNK_ROWS = 5000

metadata = sa.MetaData()


def _identified(name: str, *columns: sa.Column[Any]) -> sa.Table:
    """A table of what nodes sent: one row per (node, sequence)."""
    return sa.Table(
        name,
        metadata,
        sa.Column("node", sa.String(64), primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True),
        sa.Column("time_s", sa.Float(53), nullable=False, index=True),
        sa.Column("received_s", sa.Float(53), nullable=False),
        *columns,
    )


def _real(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Float(53))


telemetry = _identified(
    "telemetry",
    *(_real(name) for name in ("start_s", "duration_s", "net_import_w", "load_w", "pv_w", "battery_w", "ev_w", "soc_frac")),
    *(_real(name) for name in ("voltage_1_v", "voltage_2_v", "voltage_3_v", "energy_import_wh", "energy_export_wh")),
    *(_real(name) for name in ("import_limit_w", "export_limit_w", "exceeded_s")),
    sa.Column("state", sa.String(20), nullable=False),
)
responses = _identified(
    "responses",
    sa.Column("mrid", sa.String(80), nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("reason", sa.String(200), nullable=False),
)
messages = sa.Table(
    "messages",
    metadata,
    sa.Column("kind", sa.String(20), primary_key=True),
    sa.Column("node", sa.String(64), primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True),
    sa.Column("time_s", sa.Float(53), nullable=False, index=True),
    sa.Column("received_s", sa.Float(53), nullable=False),
    sa.Column("body_json", sa.Text, nullable=False),
)
"""Status, forecast, plan and flexibility declaration as they were said."""

envelopes = sa.Table(
    "envelopes",
    metadata,
    sa.Column("start_s", sa.Float(53), primary_key=True),
    sa.Column("computed_s", sa.Float(53), primary_key=True),
    sa.Column("duration_s", sa.Float(53), nullable=False),
    sa.Column("rule", sa.String(40), nullable=False),
    sa.Column("guarantee", sa.String(20), nullable=False),
    sa.Column("certificate_json", sa.Text, nullable=False),
)
"""Each computed box with the certificate that allowed it to be published."""

controls = sa.Table(
    "controls",
    metadata,
    sa.Column("mrid", sa.String(80), primary_key=True),
    sa.Column("node", sa.String(64), nullable=False, index=True),
    sa.Column("creation_time_s", sa.Float(53), nullable=False),
    sa.Column("start_s", sa.Float(53), nullable=False, index=True),
    sa.Column("duration_s", sa.Float(53), nullable=False),
    sa.Column("primacy", sa.Integer, nullable=False),
    _real("export_limit_w"),
    _real("import_limit_w"),
    sa.Column("guarantee", sa.String(20), nullable=False),
)
events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("time_s", sa.Float(53), nullable=False, index=True),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
)
state = sa.Table(
    "state",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

MUST_KEEP = frozenset({"controls", "envelopes"})
"""Tables whose rows never make room for others. The service makes no control while the store fails."""

Row = Mapping[str, Any]


class Store:
    """Append-only store behind a SQLAlchemy URL."""

    def __init__(self, url: str, *, buffer_rows: int = 100_000) -> None:
        self._buffer_rows = buffer_rows
        self._rows: deque[tuple[str, Row]] = deque()
        self._kept: list[tuple[str, Row]] = []
        self._state: dict[str, str] = {}
        self.lost: Counter[str] = Counter()
        self.written = 0
        try:
            self._engine = sa.create_engine(url)
            if self._engine.dialect.name == "sqlite":
                sa.event.listen(self._engine, "connect", _tune_sqlite)
            self._insert = _inserter(self._engine.dialect.name)
            metadata.create_all(self._engine)
        except (sa.exc.SQLAlchemyError, ModuleNotFoundError) as error:
            raise _named(error, sa.engine.make_url(url).render_as_string() if "://" in url else url) from error

    @property
    def waiting(self) -> int:
        """Rows that are not on the disk yet."""
        return len(self._rows) + len(self._kept)

    def add(self, table: sa.Table, row: Row) -> None:
        """Put a row into the buffer; the oldest measurement makes room where the buffer is full."""
        if table.name in MUST_KEEP:
            self._kept.append((table.name, row))
            return
        if len(self._rows) >= self._buffer_rows:
            name, _ = self._rows.popleft()
            self.lost[name] += 1
        self._rows.append((table.name, row))

    def remember(self, name: str, value: str) -> None:
        """Keep one value by name; written by the next flush."""
        self._state[name] = value

    def flush(self, now_s: float) -> int:
        """Bring everything that waits to the disk in one transaction; return how many rows.

        Raises StoreFullError or StoreError, and then nothing was written and everything still waits.
        """
        written = self.waiting
        if written == 0 and not self._state:
            return 0
        try:
            with self._engine.begin() as connection:
                for name, rows in self._by_table(now_s).items():
                    for first in range(0, len(rows), CHUNK_ROWS):
                        connection.execute(self._insert(metadata.tables[name]), rows[first : first + CHUNK_ROWS])
                for name, value in self._state.items():
                    connection.execute(sa.delete(state).where(state.c.name == name))
                    connection.execute(sa.insert(state).values(name=name, value=value))
        except sa.exc.SQLAlchemyError as error:
            raise _named(error, str(self._engine.url.render_as_string())) from error
        self._rows.clear()
        self._kept.clear()
        self._state.clear()
        self.lost.clear()
        self.written += written
        return written

    def rows(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
        """Return the stored rows of a table that meet every condition, in the order of its key."""
        query = sa.select(table).where(*where).order_by(*table.primary_key.columns)
        try:
            with self._engine.connect() as connection:
                return [dict(row) for row in connection.execute(query).mappings()]
        except sa.exc.SQLAlchemyError as error:
            raise _named(error, str(self._engine.url.render_as_string())) from error

    def remembered(self, name: str) -> str | None:
        """Return a remembered value."""
        found = self.rows(state, state.c.name == name)
        return str(found[0]["value"]) if found else None

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def _by_table(self, now_s: float) -> dict[str, list[Row]]:
        grouped: dict[str, list[Row]] = {}
        for name, row in (*self._rows, *self._kept):
            grouped.setdefault(name, []).append(row)
        if self.lost:
            text = ", ".join(f"{count} of {name}" for name, count in sorted(self.lost.items()))
            lost = {"time_s": now_s, "kind": "rows-lost", "message": f"rows lost while the store could not be written: {text}"}
            grouped.setdefault("events", []).append(lost)
        return grouped


def _inserter(dialect: str) -> Any:
    """Insert that ignores a row which is there already; both dialects spell it the same way."""
    inserts: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
    if dialect not in inserts:
        raise StoreError(f"store: expected a sqlite or postgresql URL, got {dialect}")
    insert = inserts[dialect]
    return lambda table: insert(table).on_conflict_do_nothing()


def _tune_sqlite(connection: Any, _record: Any) -> None:
    """Write-ahead log: readers do not block the writer, a commit is one append, and it is on the disk when it returns."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.close()


def _named(error: Exception, url: str) -> StoreError:
    """Translate a database error; the text never shows a password."""
    origin = getattr(error, "orig", None) or error
    text = " ".join(str(origin).split())[:200]
    full = "full" in text.lower() or getattr(origin, "sqlstate", None) == POSTGRESQL_DISK_FULL
    if full:
        return StoreFullError(f"store {url}: the disk is full ({text})")
    return StoreError(f"store {url}: {text}")
