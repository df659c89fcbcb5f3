"""A house of the bench's simulated devices on real sockets, whose time passes when the one who commissions it waits."""

from __future__ import annotations

from types import TracebackType

import msgspec

from edge.commissioning.meter_sign import choose_levels, find_sign
from edge.commissioning.scan import Line, scan
from edge.commissioning.targets import TcpTarget
from edge.commissioning.values import Found, SignFinding, Survey
from edge.devices.profile import shipped_profiles
from edge.devices.registry import ModbusSessions, open_device
from edge.values import DeviceKind
from hil.devices.house import House, HouseSpec
from hil.devices.server import DeviceServer, Endpoint

WRITES = (6, 16)
PATIENT = Line(timeout_s=5.0)


class CommissionedHouse:
    """`noise` is added to the meter's world after so many seconds: (second, watts) of a load that switches."""

    def __init__(self, spec: HouseSpec, *, time_of_day_h: float = 12.0, shared: bool = False) -> None:
        self.house = House("house", spec, numbered=shared)
        self.written: list[bytes] = []
        for device in self.house.devices:
            answer = device.answer

            def noted(pdu: bytes, answer=answer) -> bytes:  # type: ignore[no-untyped-def]
                if pdu[0] in WRITES:
                    self.written.append(pdu)
                return bytes(answer(pdu))

            device.answer = noted  # type: ignore[method-assign]
        devices = tuple(self.house.devices)
        self.endpoints = (Endpoint(devices=devices),) if shared else tuple(Endpoint(devices=(device,)) for device in devices)
        self.server = DeviceServer(self.endpoints)
        self.time_s = 3600.0 * time_of_day_h
        for _ in range(60):
            self.advance(1.0)

    def advance(self, dt_s: float) -> None:
        self.house.advance(self.time_s, dt_s)
        self.time_s += dt_s

    def now_s(self) -> float:
        return self.time_s

    async def wait(self, duration_s: float) -> None:
        self.advance(duration_s)

    async def __aenter__(self) -> CommissionedHouse:
        await self.server.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.server.stop()

    @property
    def targets(self) -> list[TcpTarget]:
        return [TcpTarget(host="127.0.0.1", port=endpoint.port) for endpoint in self.endpoints]

    async def scan(self, *units: int) -> Survey:
        return await scan(self.targets, units or (1,), shipped_profiles(), PATIENT, now_s=self.now_s())

    async def find_sign(self, survey: Survey, *, rating_w: float = 14_490.0) -> SignFinding:
        meter = next(device for device in survey.found if device.kind is DeviceKind.METER)
        others = [device for device in survey.found if device.kind is not DeviceKind.METER]
        levels = choose_levels(meter, others, rating_w)
        if isinstance(levels, str):
            return SignFinding(sign=None, why=levels)
        sessions = ModbusSessions()
        moved = next(device for device in others if device.config.name == levels.name)
        opened = [open_device(patiently(found), sessions) for found in (meter, moved)]
        try:
            return await find_sign(opened[0], opened[1], levels, self)
        finally:
            for device in opened:
                await device.close()


def patiently(found: Found):  # type: ignore[no-untyped-def]
    return msgspec.structs.replace(found.config, slow_s=1.0, timeout_s=5.0)
