"""A leader that lies about what it hands in, in one way after another, over its own signature."""

from __future__ import annotations

import random

import msgspec

from hil.passing_bus import PassingBus
from protocols import codec
from protocols.bus import Bus, BusMessage
from protocols.messages import AggregateNotice, RoundContent, RoundNotice
from protocols.signing import Signer
from protocols.topics import round_topic


class LyingBus(PassingBus):
    """The bus of such a leader; it lies while `lying` is set."""

    def __init__(self, inner: Bus, community: str, name: str, signer: Signer, rng: random.Random) -> None:
        super().__init__(inner)
        self._topic = round_topic(community, name, "aggregate")
        self._signer = signer
        self._rng = rng
        self.lying = False
        self.lies = 0

    def publish(self, message: BusMessage) -> None:
        super().publish(self._twisted(message) if self.lying and message.topic == self._topic else message)

    def _twisted(self, message: BusMessage) -> BusMessage:
        notice = codec.decode(message.payload, topic=message.topic)
        if not isinstance(notice, RoundNotice) or not isinstance(notice.body, AggregateNotice):
            return message
        self.lies += 1
        body, aggregate = notice.body, notice.body.aggregate
        match self.lies % 4:
            case 0:
                body = msgspec.structs.replace(body, aggregate=msgspec.structs.replace(aggregate, count=aggregate.count + 1))
            case 1:
                other = {RoundContent.PLAN: RoundContent.FLEXIBILITY}.get(body.content, RoundContent.PLAN)
                body = msgspec.structs.replace(body, content=other)
            case 2:
                noise = tuple(self._rng.randbytes(len(data)) for data in aggregate.ciphertexts)
                body = msgspec.structs.replace(body, aggregate=msgspec.structs.replace(aggregate, ciphertexts=noise))
            case _:
                body = msgspec.structs.replace(body, start_s=body.start_s + body.step_s)
        twisted = msgspec.structs.replace(notice, body=body)
        return self._signer.seal(message.topic, twisted, expiry_s=message.expiry_s)
