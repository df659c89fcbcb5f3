"""Which envelope a home is held to, by the rules of CSIP-AUS."""

import math

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hil.envelope_watch import EnvelopeWatch, PublishedRegister
from protocols.bus import BusMessage
from protocols.messages import DefaultControl, EnvelopeControl, EnvelopeSchedule, Guarantee
from protocols.signing import Signer
from protocols.topics import control_topic

SIGNER = Signer(Ed25519PrivateKey.generate())
TOPIC = control_topic("street", "h1", "envelope")


def control(mrid: str, start_s: float, export_w: float, *, made_s: float = 0.0, primacy: int = 1) -> EnvelopeControl:
    return EnvelopeControl(
        mrid=mrid,
        creation_time_s=made_s,
        start_s=start_s,
        duration_s=300.0,
        primacy=primacy,
        export_limit_w=export_w,
        guarantee=Guarantee.ROBUST,
    )


def schedule(*controls: EnvelopeControl, cancelled: tuple[str, ...] = (), sequence: int = 1) -> BusMessage:
    message = EnvelopeSchedule(
        sender="coordinator", time_s=0.0, sequence=sequence, node="h1", controls=controls, cancelled=cancelled
    )
    return SIGNER.seal(TOPIC, message)


def default(export_w: float, sequence: int = 1) -> BusMessage:
    message = DefaultControl(
        sender="coordinator", time_s=0.0, sequence=sequence, node="h1", mrid="d", export_limit_w=export_w, guarantee=Guarantee.ROBUST
    )
    return SIGNER.seal(control_topic("street", "h1", "default"), message, retain=True)


def held(*messages: BusMessage) -> EnvelopeWatch:
    register, watch = PublishedRegister(), EnvelopeWatch()
    for message in messages:
        register.add(message)
        watch.deliver(message, register)
    return watch


def test_without_a_control_the_default_holds_and_without_a_default_nothing() -> None:
    assert EnvelopeWatch().limits_w(0.0) == (math.inf, math.inf)
    watch = held(default(1500.0), schedule(control("a", 100.0, 3000.0)))
    assert [watch.limits_w(time_s)[1] for time_s in (0.0, 100.0, 399.0, 400.0)] == [1500.0, 3000.0, 3000.0, 1500.0]


def test_lower_primacy_wins_then_the_newer() -> None:
    watch = held(schedule(control("a", 0.0, 1.0, made_s=1.0), control("b", 0.0, 2.0, made_s=2.0), control("c", 0.0, 3.0, primacy=2)))
    assert watch.limits_w(10.0)[1] == 2.0


def test_a_vanished_control_is_not_a_cancelled_one() -> None:
    watch = held(schedule(control("a", 0.0, 1.0)), schedule(control("b", 300.0, 2.0), sequence=2))
    assert watch.limits_w(10.0)[1] == 1.0
    watch = held(schedule(control("a", 0.0, 1.0)), schedule(cancelled=("a",), sequence=2))
    assert watch.limits_w(10.0)[1] == math.inf


def test_zero_is_a_limit() -> None:
    assert held(schedule(control("a", 0.0, 0.0))).limits_w(10.0)[1] == 0.0


def test_what_the_coordinator_did_not_publish_is_no_envelope() -> None:
    watch = EnvelopeWatch()
    watch.deliver(schedule(control("a", 0.0, 1.0)), PublishedRegister())
    assert watch.limits_w(10.0) == (math.inf, math.inf)


def test_unverified_and_unsigned_publications_are_counted() -> None:
    register = PublishedRegister()
    register.add(schedule(control("a", 0.0, 1.0)))
    assert (register.controls, register.unverified, register.unsigned) == (1, 0, 0)
    bare = EnvelopeControl(mrid="b", creation_time_s=0.0, start_s=0.0, duration_s=300.0, export_limit_w=1.0)
    sealed = schedule(bare)
    register.add(BusMessage(topic=sealed.topic, payload=sealed.payload))
    assert (register.controls, register.unverified, register.unsigned) == (2, 1, 1)
