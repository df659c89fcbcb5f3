"""Which envelope each home is held to, worked out by the bench from the messages that were delivered to its edge.

The rules are those of CSIP-AUS and IEEE 2030.5 as `protocols.messages` states them, written here a second time on purpose: of the
controls that are active now, for each limit the lower primacy wins, then the newer one; a control that is no longer mentioned is
not cancelled; past its end a control is ignored; when none sets a limit the default control holds, and it stays until it is changed.
Only messages that the coordinator is known to have published count: whatever else an edge may have been sent is no envelope.
"""

from __future__ import annotations

import hashlib
import math

import msgspec
import numpy as np
import numpy.typing as npt

from protocols.bus import BusMessage
from protocols.messages import AnyMessage, DefaultControl, EnvelopeControl, EnvelopeSchedule, Guarantee

Floats = npt.NDArray[np.float64]
_DECODER: msgspec.json.Decoder[AnyMessage] = msgspec.json.Decoder(AnyMessage)


class PublishedRegister:
    """What the coordinator published, byte for byte, and what it promised about it."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()
        self.latest: dict[str, BusMessage] = {}
        self.messages = 0
        self.controls = 0
        self.unverified = 0
        self.unsigned = 0

    def add(self, message: BusMessage) -> None:
        """Note one message as it left the coordinator."""
        if "/control/" not in message.topic:
            return
        self._digests.add(_digest(message))
        self.latest[message.topic] = message
        self.messages += 1
        self.unsigned += "sig" not in message.properties
        content = _DECODER.decode(message.payload)
        match content:
            case EnvelopeSchedule(controls=controls):
                self.controls += len(controls)
                self.unverified += sum(control.guarantee is Guarantee.UNVERIFIED for control in controls)
            case DefaultControl(guarantee=guarantee):
                self.controls += 1
                self.unverified += guarantee is Guarantee.UNVERIFIED

    def knows(self, message: BusMessage) -> bool:
        """Whether the coordinator published exactly this."""
        return _digest(message) in self._digests


class EnvelopeWatch:
    """The envelope of one home: fed with what its edge received, asked for what holds at an instant."""

    def __init__(self) -> None:
        self._controls: dict[str, EnvelopeControl] = {}
        self._default: DefaultControl | None = None
        self._until_s = -math.inf
        self._import_w = self._export_w = math.inf
        self.ever_held = False
        self.on_control = False
        """Whether a control, not the default, set a limit when the limits were last asked for."""

    def deliver(self, message: BusMessage, published: PublishedRegister) -> None:
        """Take one message that the home's edge received."""
        if "/control/" not in message.topic or not published.knows(message):
            return
        content = _DECODER.decode(message.payload)
        match content:
            case EnvelopeSchedule(controls=controls, cancelled=cancelled):
                for control in controls:
                    self._controls[control.mrid] = control
                for mrid in cancelled:
                    self._controls.pop(mrid, None)
            case DefaultControl():
                if self._default is None or content.sequence > self._default.sequence:
                    self._default = content
            case _:
                return
        self.ever_held = True
        self._until_s = -math.inf

    def limits_w(self, now_s: float) -> tuple[float, float]:
        """(import, export) limits in force at `now_s`, infinite where nothing limits."""
        if now_s >= self._until_s:
            self._decide(now_s)
        return self._import_w, self._export_w

    def _decide(self, now_s: float) -> None:
        self._controls = {
            mrid: control for mrid, control in self._controls.items() if control.start_s + control.duration_s > now_s
        }
        edges_s = [control.start_s for control in self._controls.values() if control.start_s > now_s]
        active = [control for control in self._controls.values() if control.start_s <= now_s]
        edges_s += [control.start_s + control.duration_s for control in active]
        self._until_s = min(edges_s, default=math.inf)
        self.on_control = len(active) > 0
        self._import_w = self._limit_w(active, "import_limit_w")
        self._export_w = self._limit_w(active, "export_limit_w")

    def _limit_w(self, active: list[EnvelopeControl], name: str) -> float:
        setting = [control for control in active if getattr(control, name) is not msgspec.UNSET]
        if setting:
            winner = min(setting, key=lambda control: (control.primacy, -control.creation_time_s))
            return float(getattr(winner, name))
        if self._default is not None and getattr(self._default, name) is not msgspec.UNSET:
            return float(getattr(self._default, name))
        return math.inf


def envelope_limits(watches: list[EnvelopeWatch], now_s: float) -> tuple[Floats, Floats]:
    """Import and export limits of all homes at `now_s`, shape (homes,) each."""
    pairs = np.array([watch.limits_w(now_s) for watch in watches]).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _digest(message: BusMessage) -> bytes:
    return hashlib.blake2b(message.payload, digest_size=16, key=message.topic.encode()[-64:]).digest()
