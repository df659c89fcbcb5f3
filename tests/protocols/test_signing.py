"""The rules of trust of `protocols.signing`, one by one."""

from __future__ import annotations

import copy
import pickle

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from protocols.bus import BusMessage
from protocols.errors import BadSignature, Malformed, Replayed, Stale, UnknownSender, Unsigned
from protocols.messages import DefaultControl, EnvelopeControl, EnvelopeSchedule, Guarantee, SafetyState, Status
from protocols.signing import WINDOW, ReplayWindow, Sequencer, Signer, Verifier
from protocols.topics import control_topic, node_topic

NOW_S = 1_700_000_000.0
ENVELOPE_TOPIC = control_topic("street", "h01", "envelope")


def signer(seed: int) -> Signer:
    return Signer(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


COORDINATOR = signer(1)
STRANGER = signer(2)


def verifier() -> Verifier:
    return Verifier("street", {"coordinator": [COORDINATOR.public_key]})


def schedule(sequence: int = 1, time_s: float = NOW_S, sender: str = "coordinator") -> EnvelopeSchedule:
    control = EnvelopeControl(
        mrid=f"e-{sequence}",
        creation_time_s=time_s,
        start_s=time_s,
        duration_s=300.0,
        export_limit_w=1500.0,
        import_limit_w=0.0,
        guarantee=Guarantee.ROBUST,
    )
    return EnvelopeSchedule(sender=sender, time_s=time_s, sequence=sequence, node="h01", controls=(control,))


def test_a_sealed_message_opens_to_what_was_sealed() -> None:
    message = schedule()
    assert verifier().open(COORDINATOR.seal(ENVELOPE_TOPIC, message), NOW_S) == message


def test_the_payload_is_readable_json_with_csip_aus_names() -> None:
    sealed = COORDINATOR.seal(ENVELOPE_TOPIC, schedule())
    control = msgspec.json.decode(sealed.payload)["controls"][0]
    assert control["opModExpLimW"] == 1500.0
    assert control["opModImpLimW"] == 0.0
    assert "opModGenLimW" not in control


def test_an_unsigned_message_is_refused() -> None:
    sealed = COORDINATOR.seal(ENVELOPE_TOPIC, schedule())
    with pytest.raises(Unsigned):
        verifier().open(msgspec.structs.replace(sealed, properties={}), NOW_S)


def test_a_key_that_is_not_trusted_for_the_owner_is_refused() -> None:
    with pytest.raises(UnknownSender):
        verifier().open(STRANGER.seal(ENVELOPE_TOPIC, schedule()), NOW_S)


def test_a_revoked_key_is_refused() -> None:
    receiver = verifier()
    receiver.trust("coordinator", [])
    with pytest.raises(UnknownSender):
        receiver.open(COORDINATOR.seal(ENVELOPE_TOPIC, schedule()), NOW_S)


def test_one_changed_byte_is_refused_before_it_is_decoded() -> None:
    sealed = COORDINATOR.seal(ENVELOPE_TOPIC, schedule())
    for position in range(0, len(sealed.payload), 7):
        changed = bytearray(sealed.payload)
        changed[position] ^= 1
        with pytest.raises(BadSignature):
            verifier().open(msgspec.structs.replace(sealed, payload=bytes(changed)), NOW_S)


def test_a_message_moved_to_another_node_is_refused() -> None:
    sealed = COORDINATOR.seal(ENVELOPE_TOPIC, schedule())
    with pytest.raises(BadSignature):
        verifier().open(msgspec.structs.replace(sealed, topic=control_topic("street", "h02", "envelope")), NOW_S)


def test_a_signature_that_is_not_base64_is_refused() -> None:
    sealed = COORDINATOR.seal(ENVELOPE_TOPIC, schedule())
    with pytest.raises(BadSignature):
        verifier().open(msgspec.structs.replace(sealed, properties={**sealed.properties, "sig": "%%%"}), NOW_S)


def test_a_sender_speaks_only_on_its_own_topics() -> None:
    status = Status(sender="h02", time_s=NOW_S, sequence=1, state=SafetyState.FAILSAFE, software="test")
    receiver = Verifier("street", {"h01": [STRANGER.public_key]})
    with pytest.raises(Malformed, match="does not own"):
        receiver.open(STRANGER.seal(node_topic("street", "h01", "status"), status), NOW_S)


def test_a_type_belongs_to_its_topic_kind() -> None:
    with pytest.raises(Malformed, match="does not belong"):
        verifier().open(COORDINATOR.seal(control_topic("street", "h01", "default"), schedule()), NOW_S)


def test_another_community_is_refused() -> None:
    with pytest.raises(Malformed, match="community"):
        verifier().open(COORDINATOR.seal(control_topic("other", "h01", "envelope"), schedule()), NOW_S)


@pytest.mark.parametrize("topic", ["", "x", "commonwatt/1/street/control/h01", "commonwatt/2/street/control/h01/envelope"])
def test_a_topic_outside_the_grammar_is_refused(topic: str) -> None:
    with pytest.raises(Malformed):
        verifier().open(BusMessage(topic=topic, payload=b"{}"), NOW_S)


def test_a_message_is_accepted_once() -> None:
    receiver = verifier()
    sealed = COORDINATOR.seal(ENVELOPE_TOPIC, schedule())
    receiver.open(sealed, NOW_S)
    with pytest.raises(Replayed):
        receiver.open(sealed, NOW_S)


def test_a_replay_is_refused_after_a_restart_with_restored_windows() -> None:
    first = verifier()
    sealed = COORDINATOR.seal(ENVELOPE_TOPIC, schedule())
    first.open(sealed, NOW_S)
    second = verifier()
    second.restore_windows(first.save_windows())
    with pytest.raises(Replayed):
        second.open(sealed, NOW_S)


def test_saved_windows_that_are_garbage_are_refused() -> None:
    with pytest.raises(Malformed):
        verifier().restore_windows(b"\x00garbage")


def test_a_refused_message_does_not_move_the_window() -> None:
    receiver = verifier()
    with pytest.raises(Stale):
        receiver.open(COORDINATOR.seal(ENVELOPE_TOPIC, schedule(sequence=10**9, time_s=NOW_S + 3600.0)), NOW_S)
    receiver.open(COORDINATOR.seal(ENVELOPE_TOPIC, schedule(sequence=5)), NOW_S)


def test_an_old_schedule_is_stale_but_an_old_default_holds() -> None:
    receiver = verifier()
    with pytest.raises(Stale):
        receiver.open(COORDINATOR.seal(ENVELOPE_TOPIC, schedule()), NOW_S + 2 * 86400.0)
    topic = control_topic("street", "h01", "default")
    default = DefaultControl(
        sender="coordinator", time_s=NOW_S, sequence=2, node="h01", mrid="d1", export_limit_w=0.0, import_limit_w=5000.0
    )
    assert receiver.open(COORDINATOR.seal(topic, default, retain=True), NOW_S + 30 * 86400.0) == default


@given(st.lists(st.integers(min_value=0, max_value=300), max_size=200))
def test_the_window_accepts_each_number_at_most_once(numbers: list[int]) -> None:
    window = ReplayWindow()
    accepted: set[int] = set()
    for number in numbers:
        if window.is_new(number):
            assert number not in accepted
            assert number > max(accepted, default=-1) - WINDOW
            window.accept(number)
            accepted.add(number)
        else:
            assert number in accepted or number <= max(accepted) - WINDOW


def test_sequence_numbers_grow_across_a_restart() -> None:
    first = Sequencer(NOW_S)
    used = [first.next() for _ in range(100)]
    clock_went_back = Sequencer(NOW_S - 1000.0, floor=first.last)
    assert clock_went_back.next() > max(used)
    disk_was_lost = Sequencer(NOW_S + 10.0)
    assert disk_was_lost.next() > max(used)


def test_a_signer_shows_and_gives_away_no_key() -> None:
    assert repr(COORDINATOR) == f"Signer({COORDINATOR.key_id})"
    with pytest.raises(TypeError):
        pickle.dumps(COORDINATOR)
    with pytest.raises(TypeError):
        copy.deepcopy(COORDINATOR)


def test_a_will_is_accepted_once_however_many_statuses_came_after_it_was_signed() -> None:
    receiver = Verifier("street", {"h01": [STRANGER.public_key]})
    topic = node_topic("street", "h01", "status")

    def status(sequence: int, state: SafetyState) -> BusMessage:
        content = Status(sender="h01", time_s=NOW_S, sequence=sequence, state=state, software="test")
        return STRANGER.seal(topic, content, retain=True)

    will = status(1, SafetyState.OFFLINE)
    for sequence in range(2, 2 + 3 * WINDOW):
        receiver.open(status(sequence, SafetyState.CONTROLLED), NOW_S)
    receiver.open(will, NOW_S)
    with pytest.raises(Replayed):
        receiver.open(will, NOW_S)
