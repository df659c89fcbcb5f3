"""Modbus TCP endpoints for simulated devices: many ports and units in one asyncio loop.

The framing is our own, not pymodbus's server: the edge's client is pymodbus, and two ends from one library would agree on the same
mistake; and that server answers only the first of two requests in one segment, stamps a late answer with the transaction identifier of
a newer request, and answers an illegal count or an unknown unit with a wrong exception. Framing: MODBUS Messaging on TCP/IP
Implementation Guide V1.0b, section 3.1. Exceptions: MODBUS Application Protocol V1.1b3, section 7.
"""

import asyncio
import struct
from collections.abc import Sequence
from typing import cast

import msgspec

from hil.devices.device import NoAnswer, SimulatedDevice
from hil.devices.faults import Fault, FaultKind
from hil.devices.registers import GATEWAY_NO_RESPONSE
from hil.errors import HilError

_HEADER = struct.Struct(">HHHB")
HEADER_BYTES = 7
LONGEST_PDU = 253


class ServerError(HilError):
    """An endpoint cannot be opened."""


class Endpoint(msgspec.Struct, kw_only=True):
    """Devices behind one port, told apart by their unit identifier.

    sessions: how many connections are accepted at once, None for any number; many inverters take one. A unit that does not exist
    is answered with exception 11, or not at all where `silent_to_strangers`. port 0 lets the system choose; `DeviceServer` then
    fills it in. `requests` counts what was asked.
    """

    devices: tuple[SimulatedDevice, ...]
    port: int = 0
    host: str = "127.0.0.1"
    sessions: int | None = None
    silent_to_strangers: bool = False
    requests: int = 0


class DeviceServer:
    """Serves endpoints from `start` to `stop`; `connection` is the framing (`hil.devices.rtu.RtuConnection` for RTU over TCP)."""

    def __init__(self, endpoints: Sequence[Endpoint], *, connection: "type[Connection] | None" = None) -> None:
        self.endpoints = tuple(endpoints)
        self._connection = ModbusTcpConnection if connection is None else connection
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()

    async def start(self) -> None:
        """Listen on every endpoint; on the first that cannot be opened everything is closed again."""
        loop = asyncio.get_running_loop()
        for endpoint in self.endpoints:
            try:
                server = await loop.create_server(
                    lambda endpoint=endpoint: self._connection(endpoint, self._connections),  # type: ignore[misc]
                    endpoint.host,
                    endpoint.port,
                )
            except OSError as error:
                await self.stop()
                raise ServerError(f"cannot listen on {endpoint.host}:{endpoint.port}: {error.strerror}") from error
            endpoint.port = server.sockets[0].getsockname()[1]
            self._servers.append(server)

    async def stop(self) -> None:
        """Close every listener and connection."""
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.abort()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    def drop_connections(self, port: int) -> int:
        """Cut every connection to one port, as when the device loses power; returns how many there were."""
        cut = [connection for connection in self._connections if connection.endpoint.port == port]
        for connection in cut:
            connection.abort()
        return len(cut)


class Connection(asyncio.Protocol):
    """One client of an endpoint, whatever the framing."""

    def __init__(self, endpoint: Endpoint, connections: "set[Connection]") -> None:
        self.endpoint = endpoint
        self._connections = connections
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the client, or turn it away at once when the device takes no more."""
        # Transports of uvloop have the face of asyncio.Transport without being one.
        accepted = cast(asyncio.Transport, transport)
        endpoint = self.endpoint
        if endpoint.sessions is not None:
            open_now = sum(connection.endpoint is endpoint for connection in self._connections)
            if open_now >= endpoint.sessions:
                accepted.abort()
                return
        self._transport = accepted
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._transport = None
        self._connections.discard(self)

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _send(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frame)

    def _send_later(self, delay_s: float, frame: bytes | None) -> None:
        """Send after a while; None cuts the connection instead."""
        if delay_s > 0.0:
            asyncio.get_running_loop().call_later(delay_s, self._send_later, 0.0, frame)
        elif frame is None:
            self.abort()
        else:
            self._send(frame)


class ModbusTcpConnection(Connection):
    """Modbus TCP: cuts the stream into requests, answers each under its own transaction identifier."""

    def __init__(self, endpoint: Endpoint, connections: set[Connection]) -> None:
        super().__init__(endpoint, connections)
        self._units = {device.unit: device for device in endpoint.devices}
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer every complete request in the stream; a stream that is not Modbus is cut."""
        if self._buffer:
            data = self._buffer + data
        start, size = 0, len(data)
        while size - start >= HEADER_BYTES:
            transaction, protocol, length, unit = _HEADER.unpack_from(data, start)
            if protocol != 0 or not 2 <= length <= LONGEST_PDU + 1:
                self._buffer = b""
                self.abort()
                return
            end = start + 6 + length
            if end > size:
                break
            self._answer(transaction, unit, data[start + HEADER_BYTES : end])
            start = end
        self._buffer = data[start:]

    def _answer(self, transaction: int, unit: int, pdu: bytes) -> None:
        self.endpoint.requests += 1
        device = self._units.get(unit)
        if device is None:
            if not self.endpoint.silent_to_strangers:
                refusal = bytes((pdu[0] | 0x80, GATEWAY_NO_RESPONSE))
                self._send(_HEADER.pack(transaction, 0, 3, unit) + refusal)
            return
        try:
            answer = device.answer(pdu)
        except NoAnswer as silence:
            if silence.closes:
                self.abort()
            return
        frame = _HEADER.pack(transaction, 0, len(answer) + 1, unit) + answer
        delay_s = device.answer_delay_s
        faults = device.frame_faults()
        if delay_s <= 0.0 and not faults:
            self._send(frame)
        else:
            for after_s, part in distorted(frame, faults, device, delay_s):
                self._send_later(after_s, part)


SPLIT_PAUSE_S = 0.005


def distorted(
    frame: bytes, faults: Sequence[Fault], device: SimulatedDevice, delay_s: float
) -> list[tuple[float, bytes | None]]:
    """What becomes of an answer on its way: parts with the time after which each is sent; None closes the connection."""
    parts: list[bytes | None] = [frame]
    pause_s = 0.0
    for fault in faults:
        kind = fault.kind
        if kind is FaultKind.DROP:
            return []
        if kind is FaultKind.CLOSE:
            return [(delay_s, None)]
        if kind is FaultKind.DELAY:
            delay_s += fault.value
        elif kind is FaultKind.SPLIT:
            middle = len(frame) // 2
            parts, pause_s = [frame[:middle], frame[middle:]], SPLIT_PAUSE_S
        elif kind is FaultKind.DUPLICATE:
            parts = [*parts, *parts]
        else:
            parts = [_damaged(frame, kind, device)]
    return [(delay_s + index * pause_s, part) for index, part in enumerate(parts)]


def _damaged(frame: bytes, kind: FaultKind, device: SimulatedDevice) -> bytes:
    if kind is FaultKind.TRUNCATE:
        return frame[: max(len(frame) // 2, 1)]
    if kind is FaultKind.GARBAGE_FRAME:
        return device.random_bytes(len(frame))
    transaction, _, length, unit = _HEADER.unpack_from(frame)
    if kind is FaultKind.WRONG_TRANSACTION:
        transaction = (transaction + 1) & 0xFFFF
    elif kind is FaultKind.WRONG_UNIT:
        unit = unit % 247 + 1
    else:
        assert kind is FaultKind.WRONG_LENGTH, kind
        length += 2
    return _HEADER.pack(transaction, 0, length, unit) + frame[HEADER_BYTES:]
