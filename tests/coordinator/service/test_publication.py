"""The rolling schedule has no gaps, says only what changed, and every mixture of old and new controls stays inside a verified box."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.demand import LimitPair
from coordinator.publication import Ledger, limits_of
from protocols.messages import EnvelopeControl, Guarantee

NODES = ("a", "b")
DEFAULT = LimitPair(import_w=3000.0, export_w=1000.0)
NOW_S = 1_700_000_100.0


def ledger(**changes: float) -> Ledger:
    options = {"interval_s": 300.0, "horizon_s": 1800.0, "deadband_w": 50.0, **changes}
    return Ledger(NODES, primacy=1, **options)  # type: ignore[arg-type]


def box(import_w: float, export_w: float) -> dict[str, LimitPair]:
    return dict.fromkeys(NODES, LimitPair(import_w=import_w, export_w=export_w))


def test_the_grid_begins_with_the_interval_that_holds_now() -> None:
    starts = ledger().starts(NOW_S)
    assert starts[0] <= NOW_S < starts[0] + 300.0
    assert starts == [starts[0] + 300.0 * index for index in range(6)]
    assert all(start % 300.0 == 0.0 for start in starts)


def test_consecutive_publications_leave_no_gap() -> None:
    book = ledger()
    covered: list[EnvelopeControl] = []
    for cycle in range(20):
        now_s = NOW_S + 300.0 * cycle
        for start_s in book.starts(now_s):
            covered += book.accept(start_s, box(5000.0 + cycle, 2000.0), Guarantee.ROBUST, now_s).values()
        pending = book.pending("a", now_s)
        assert pending[0].start_s <= now_s
        ends = [control.start_s + control.duration_s for control in pending]
        assert ends[:-1] == [control.start_s for control in pending[1:]]
        assert ends[-1] >= now_s + 1500.0
        book.forget(now_s)


def test_what_did_not_change_is_not_said_again() -> None:
    book = ledger()
    start_s = book.starts(NOW_S)[0]
    assert len(book.accept(start_s, box(5000.0, 2000.0), Guarantee.ROBUST, NOW_S)) == 2
    assert book.accept(start_s, box(5000.0, 2000.0), Guarantee.ROBUST, NOW_S + 1.0) == {}
    assert book.accept(start_s, box(5040.0, 2000.0), Guarantee.ROBUST, NOW_S + 2.0) == {}


def test_a_limit_that_shrinks_is_always_said_and_supersedes_by_a_newer_creation() -> None:
    book = ledger()
    start_s = book.starts(NOW_S)[0]
    old = book.accept(start_s, box(5000.0, 2000.0), Guarantee.ROBUST, NOW_S)["a"]
    new = book.accept(start_s, box(5000.0, 1999.0), Guarantee.ROBUST, NOW_S + 1.0)["a"]
    assert new.mrid != old.mrid
    assert new.creation_time_s > old.creation_time_s
    assert (new.start_s, new.duration_s) == (old.start_s, old.duration_s)


def test_another_guarantee_class_is_said_even_where_the_limits_are_the_same() -> None:
    book = ledger()
    start_s = book.starts(NOW_S)[0]
    book.accept(start_s, box(5000.0, 2000.0), Guarantee.ROBUST, NOW_S)
    again = book.accept(start_s, box(5000.0, 2000.0), Guarantee.COINCIDENT, NOW_S + 1.0)
    assert {control.guarantee for control in again.values()} == {Guarantee.COINCIDENT}


def test_what_is_outstanding_is_a_floor_until_it_is_acknowledged() -> None:
    book = ledger()
    start_s = book.starts(NOW_S)[0]
    assert book.floor(start_s, "a", DEFAULT) == DEFAULT
    book.accept(start_s, box(8000.0, 500.0), Guarantee.ROBUST, NOW_S)
    assert book.floor(start_s, "a", DEFAULT) == LimitPair(import_w=8000.0, export_w=1000.0)
    tightened = book.accept(start_s, box(4000.0, 1500.0), Guarantee.ROBUST, NOW_S + 1.0)
    assert book.floor(start_s, "a", DEFAULT) == LimitPair(import_w=8000.0, export_w=1500.0)
    book.acknowledge("a", tightened["a"].mrid)
    assert book.floor(start_s, "a", DEFAULT) == LimitPair(import_w=4000.0, export_w=1500.0)
    assert book.floor(start_s, "b", DEFAULT) == LimitPair(import_w=8000.0, export_w=1500.0)


def test_a_restart_knows_what_is_outstanding() -> None:
    book, again = ledger(), ledger()
    said = []
    for start_s in book.starts(NOW_S):
        said += list(book.accept(start_s, box(8000.0, 500.0), Guarantee.ROBUST, NOW_S).items())
        said += list(book.accept(start_s, box(4000.0, 1500.0), Guarantee.ROBUST, NOW_S + 1.0).items())
    again.restore(reversed(said))
    for start_s in book.starts(NOW_S):
        assert again.floor(start_s, "a", DEFAULT) == book.floor(start_s, "a", DEFAULT)
        assert again.published(start_s)
    assert again.pending("a", NOW_S) == book.pending("a", NOW_S)


def test_mrids_are_short_enough_and_never_repeat() -> None:
    long = "n" * 64
    book = Ledger((long, long[:63]), interval_s=300.0, horizon_s=1800.0, deadband_w=0.0, primacy=1)
    limits = {name: LimitPair(import_w=1.0, export_w=1.0) for name in (long, long[:63])}
    said = [control.mrid for start_s in book.starts(NOW_S) for control in book.accept(start_s, limits, Guarantee.ROBUST, NOW_S).values()]
    assert len(set(said)) == len(said) == 12
    assert max(map(len, said)) <= 80


@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e4), st.booleans()), max_size=12), st.data())
def test_whatever_a_node_received_lies_inside_the_next_box(steps: list[tuple[float, float, bool]], data: st.DataObject) -> None:
    """Each box contains the floor, as the allocator guarantees. Then any control ever sent, or the default, lies in the newest box."""
    book = ledger()
    start_s = book.starts(NOW_S)[0]
    sent: list[EnvelopeControl] = []
    newest = DEFAULT
    for number, (import_w, export_w, acknowledged) in enumerate(steps):
        newest = book.floor(start_s, "a", DEFAULT).covering(LimitPair(import_w=import_w, export_w=export_w))
        changed = book.accept(start_s, {"a": newest, "b": newest}, Guarantee.ROBUST, NOW_S + number)
        if "a" in changed:
            sent.append(changed["a"])
            if acknowledged:
                book.acknowledge("a", changed["a"].mrid)
    if sent:
        followed = limits_of(data.draw(st.sampled_from(sent)))
        assert newest.covering(followed) == newest
    assert newest.covering(DEFAULT) == newest
