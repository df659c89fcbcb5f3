"""What the tests of the simulated devices share: devices of every kind, a served endpoint, and clients that are not ours."""

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Callable
from importlib import resources
from typing import Any

from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

from hil.devices.battery import BatteryInverter
from hil.devices.device import Inputs, SimulatedDevice
from hil.devices.hybrid import HybridInverter
from hil.devices.meter import Meter
from hil.devices.pv import PvInverter
from hil.devices.quirks import Quirks
from hil.devices.server import DeviceServer, Endpoint

NOON = Inputs(voltage_v=(233.4,), available_w=3210.0, phase_power_w=(1234.0,))
NOON_THREE_PHASE = Inputs(voltage_v=(231.2, 229.9, 234.5), available_w=3210.0, phase_power_w=(900.0, -400.0, 250.0))


def pv(**options: Any) -> PvInverter:
    return PvInverter("pv", **{"rated_w": 5000.0, **options})


def battery(**options: Any) -> BatteryInverter:
    ratings = {"capacity_wh": 10_000.0, "max_charge_w": 4000.0, "max_discharge_w": 5000.0}
    return BatteryInverter("battery", **{**ratings, **options})


def hybrid(**options: Any) -> HybridInverter:
    ratings = {"rated_w": 6000.0, "pv_rated_w": 8000.0, "capacity_wh": 10_000.0, "max_charge_w": 4000.0, "max_discharge_w": 5000.0}
    return HybridInverter("hybrid", **{**ratings, **options})


def meter(**options: Any) -> Meter:
    return Meter("meter", **options)


DEVICES: dict[str, Callable[[], SimulatedDevice]] = {
    "pv with one phase": pv,
    "pv with three phases": lambda: pv(phases=3),
    "pv with float models": lambda: pv(phases=3, quirks=Quirks(float_models=True)),
    "pv with model 1 of length 66": lambda: pv(quirks=Quirks(common_length=66)),
    "pv at base 0": lambda: pv(quirks=Quirks(base_address=0)),
    "pv at base 50000": lambda: pv(quirks=Quirks(base_address=50000)),
    "pv with its models in another order": lambda: pv(quirks=Quirks(models=(1, 160, 123, 120, 121, 122, 101))),
    "pv that changes its scale factors": lambda: pv(quirks=Quirks(autorange=True)),
    "pv as DER": lambda: pv(phases=3, der=True),
    "large pv": lambda: pv(rated_w=250_000.0, phases=3, quirks=Quirks(models=(1, 103, 120, 121, 123, 160, 701, 702))),
    "battery as DER": battery,
    "battery with model 124": lambda: battery(legacy=True),
    "hybrid as DER": lambda: hybrid(phases=3),
    "hybrid with model 124": lambda: hybrid(legacy=True, quirks=Quirks(float_models=True)),
    "meter with one phase": meter,
    "meter with three phases": lambda: meter(phases=3),
    "meter with float models": lambda: meter(phases=3, quirks=Quirks(float_models=True)),
}


def run(device: SimulatedDevice, seconds: float, inputs: Inputs | None = None, *, dt_s: float = 1.0) -> None:
    """Let a device live for a while under constant inputs."""
    if inputs is None:
        inputs = NOON if device.phases == 1 else NOON_THREE_PHASE
    for _ in range(round(seconds / dt_s)):
        device.advance(device.now_s, dt_s, inputs)


@contextlib.asynccontextmanager
async def served(*devices: SimulatedDevice, **options: Any) -> AsyncIterator[Endpoint]:
    """Devices behind one free port."""
    endpoint = Endpoint(devices=devices, **options)
    server = DeviceServer([endpoint])
    await server.start()
    try:
        yield endpoint
    finally:
        await server.stop()


async def with_sunspec_client(
    endpoint: Endpoint, unit: int, act: Callable[[SunSpecModbusClientDeviceTCP], Any]
) -> Any:
    """Scan with pysunspec2 and let `act` use the client; it is synchronous, so it runs in a thread of its own."""

    def session() -> Any:
        client = SunSpecModbusClientDeviceTCP(slave_id=unit, ipaddr=endpoint.host, ipport=endpoint.port, timeout=5)
        client.scan(connect=False)
        try:
            return act(client)
        finally:
            client.close()

    return await asyncio.to_thread(session)


class RawClient:
    """A Modbus TCP client that sends what it is told and returns what comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, endpoint: Endpoint) -> "RawClient":
        return cls(*await asyncio.open_connection(endpoint.host, endpoint.port))

    def send(self, *requests: bytes) -> None:
        self.writer.write(b"".join(requests))

    async def receive(self, timeout_s: float = 2.0) -> tuple[int, int, bytes]:
        """Transaction, unit and PDU of the next answer."""
        header = await asyncio.wait_for(self.reader.readexactly(7), timeout_s)
        transaction, protocol, length, unit = struct.unpack(">HHHB", header)
        assert protocol == 0
        return transaction, unit, await asyncio.wait_for(self.reader.readexactly(length - 1), timeout_s)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


def read_request(transaction: int, address: int, count: int, *, unit: int = 1, function: int = 3) -> bytes:
    return struct.pack(">HHHBBHH", transaction, 0, 6, unit, function, address, count)


def write_request(transaction: int, address: int, *values: int, unit: int = 1) -> bytes:
    body = struct.pack(f">BBHHB{len(values)}H", unit, 16, address, len(values), 2 * len(values), *values)
    return struct.pack(">HHH", transaction, 0, len(body)) + body


def address_of(device: SimulatedDevice, model_id: int, point: str) -> int:
    """Where a point lies, found by walking the map as any client does and counting the widths of the sunspec2 definition."""
    base = device.quirks.base_address
    assert device.read_registers(device.unit, base, 2) == (0x5375, 0x6E53)
    address = base + 2
    while True:
        found, length = device.read_registers(device.unit, address, 2)
        if found == model_id:
            break
        assert found != 0xFFFF, f"no model {model_id}"
        address += 2 + length
    path = resources.files("sunspec2").joinpath(f"models/json/model_{model_id}.json")
    for entry in json.loads(path.read_text(encoding="utf-8"))["group"]["points"]:
        if entry["name"] == point:
            return address
        address += entry["size"]
    raise AssertionError(f"model {model_id} has no {point}")


def write(device: SimulatedDevice, model_id: int, point: str, *values: int) -> None:
    """Write a point of a model as a master would."""
    device.write_registers(device.unit, address_of(device, model_id, point), values)


def read(device: SimulatedDevice, model_id: int, point: str, count: int = 1) -> tuple[int, ...]:
    """Read the registers of a point as a master would."""
    return device.read_registers(device.unit, address_of(device, model_id, point), count)


def signed(register: int) -> int:
    """What a register says in two's complement."""
    return register - 0x10000 if register & 0x8000 else register


def words(value: int) -> tuple[int, int]:
    """The two registers of a 32-bit value, the high one first."""
    return (value >> 16) & 0xFFFF, value & 0xFFFF
