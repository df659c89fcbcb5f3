"""The store keeps what it was given, once, and a full disk loses nothing silently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from coordinator import store as tables
from coordinator.errors import StoreError, StoreFullError
from coordinator.store import Store

NOW_S = 1_700_000_000.0


def telemetry(sequence: int, node: str = "h1") -> dict[str, Any]:
    columns = {column.name: None for column in tables.telemetry.columns}
    return {
        **columns, "node": node, "sequence": sequence, "time_s": NOW_S, "received_s": NOW_S, "net_import_w": 100.0 * sequence,
        "state": "controlled",
    }  # fmt: skip


def control(mrid: str, start_s: float = NOW_S) -> dict[str, Any]:
    return {
        "mrid": mrid, "node": "h1", "creation_time_s": NOW_S, "start_s": start_s, "duration_s": 300.0, "primacy": 1,
        "export_limit_w": 0.0, "import_limit_w": 5000.0, "guarantee": "robust",
    }  # fmt: skip


def database(folder: Path, **options: Any) -> Store:
    return Store(f"sqlite:///{folder / 'coordinator.db'}", **options)


def fill_disk(store: Store) -> None:
    """Let SQLite refuse to grow, as it does on a full disk (SQLITE_FULL)."""

    def limit(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA max_page_count=1")
        cursor.close()

    store.close()
    sa.event.listen(store._engine, "connect", limit)


def free_disk(store: Store) -> None:
    def unlimit(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA max_page_count=1000000")
        cursor.close()

    store.close()
    sa.event.listen(store._engine, "connect", unlimit)


def test_what_was_added_is_there_after_a_restart(tmp_path: Path) -> None:
    first = database(tmp_path)
    first.add(tables.telemetry, telemetry(1))
    first.add(tables.controls, control("a"))
    first.remember("sequence", "17")
    assert first.flush(NOW_S) == 2
    first.close()
    again = database(tmp_path)
    assert [row["net_import_w"] for row in again.rows(tables.telemetry)] == [100.0]
    assert again.rows(tables.controls)[0]["export_limit_w"] == 0.0
    assert again.remembered("sequence") == "17"
    assert again.remembered("nothing") is None


def test_a_message_that_comes_twice_is_stored_once(tmp_path: Path) -> None:
    store = database(tmp_path)
    for _ in range(2):
        store.add(tables.telemetry, telemetry(1))
        store.add(tables.telemetry, telemetry(2))
        store.flush(NOW_S)
    assert len(store.rows(tables.telemetry)) == 2


def test_rows_that_were_stored_are_not_changed_by_later_ones(tmp_path: Path) -> None:
    store = database(tmp_path)
    store.add(tables.telemetry, telemetry(1))
    store.flush(NOW_S)
    store.add(tables.telemetry, {**telemetry(1), "net_import_w": -1.0})
    store.flush(NOW_S)
    assert store.rows(tables.telemetry)[0]["net_import_w"] == 100.0


def test_a_remembered_value_is_replaced(tmp_path: Path) -> None:
    store = database(tmp_path)
    for value in ("1", "2"):
        store.remember("sequence", value)
        store.flush(NOW_S)
    assert store.remembered("sequence") == "2"


def test_a_full_disk_is_a_named_error_and_nothing_is_lost(tmp_path: Path) -> None:
    store = database(tmp_path)
    fill_disk(store)
    for sequence in range(2000):
        store.add(tables.telemetry, telemetry(sequence))
    with pytest.raises(StoreFullError, match="disk is full"):
        store.flush(NOW_S)
    assert store.waiting == 2000
    free_disk(store)
    assert store.flush(NOW_S) == 2000
    assert len(store.rows(tables.telemetry)) == 2000


def test_a_full_buffer_drops_the_oldest_measurements_and_says_how_many(tmp_path: Path) -> None:
    store = database(tmp_path, buffer_rows=100)
    store.add(tables.controls, control("a"))
    for sequence in range(130):
        store.add(tables.telemetry, telemetry(sequence))
    assert store.waiting == 101
    assert store.lost == {"telemetry": 30}
    store.flush(NOW_S)
    assert store.rows(tables.telemetry)[0]["sequence"] == 30
    assert len(store.rows(tables.controls)) == 1
    event = store.rows(tables.events)[0]
    assert "30 of telemetry" in event["message"]
    assert store.lost.total() == 0


def test_a_broken_row_stops_the_whole_transaction(tmp_path: Path) -> None:
    store = database(tmp_path)
    store.add(tables.telemetry, telemetry(1))
    store.add(tables.events, {"time_s": NOW_S, "kind": "x", "message": None})
    with pytest.raises(StoreError):
        store.flush(NOW_S)
    assert store.rows(tables.telemetry) == []


@pytest.mark.parametrize("url", ["sqlite:////nowhere/at/all.db", "mysql://x", "not a url", "oracle://x/y"])
def test_a_store_that_cannot_be_opened_is_one_line(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        Store(url)
    assert "\n" not in str(caught.value)


def test_the_password_of_a_url_is_never_shown() -> None:
    with pytest.raises(StoreError) as caught:
        Store("postgresql+psycopg://user:secret@127.0.0.1:1/nothing")
    assert "secret" not in str(caught.value)


def test_the_same_tables_and_inserts_compile_for_postgresql() -> None:
    dialect = postgresql.dialect()
    for table in tables.metadata.sorted_tables:
        assert "CREATE TABLE" in str(sa.schema.CreateTable(table).compile(dialect=dialect))
    insert = tables._inserter("postgresql")(tables.telemetry)
    assert "ON CONFLICT DO NOTHING" in str(insert.compile(dialect=dialect))


def test_every_quantity_column_names_its_unit() -> None:
    units = ("_s", "_w", "_wh", "_v", "_frac")
    for table in tables.metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, sa.Float):
                assert column.name.endswith(units), f"{table.name}.{column.name}"
