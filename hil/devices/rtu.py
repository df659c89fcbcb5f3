"""Modbus RTU endpoints for simulated devices: over TCP as serial gateways speak it, and over a pseudo-terminal.

Framing: MODBUS over Serial Line V1.02, section 2.5.1 (address, function, data, CRC-16 with the polynomial 0xA001, low byte first). A
frame's end is known from its function; there is no silent interval to watch on a socket or a pseudo-terminal. A frame with a wrong
checksum is dropped together with everything received so far, as a receiver that waits for the next silent interval does. A unit
that does not exist stays silent: on a serial line nobody is there to answer.
"""

import asyncio
import os
import tty

from hil.devices.device import NoAnswer, SimulatedDevice
from hil.devices.faults import Fault, FaultKind
from hil.devices.server import SPLIT_PAUSE_S, Connection, Endpoint

FIXED_REQUESTS = {1: 8, 2: 8, 3: 8, 4: 8, 5: 8, 6: 8}
SHORTEST_FRAME = 4


class RtuResponder:
    """Cuts a stream of RTU requests and answers them; `respond` returns (delay_s, bytes) parts to send."""

    def __init__(self, devices: tuple[SimulatedDevice, ...]) -> None:
        self._units = {device.unit: device for device in devices}
        self._buffer = b""

    def respond(self, data: bytes) -> list[tuple[float, bytes]]:
        """The answers to every complete request received so far."""
        self._buffer += data
        parts: list[tuple[float, bytes]] = []
        while len(self._buffer) >= SHORTEST_FRAME:
            size = _request_size(self._buffer)
            if size is None:
                self._buffer = b""
                break
            if len(self._buffer) < size:
                break
            frame, self._buffer = self._buffer[:size], self._buffer[size:]
            if crc16(frame[:-2]) != int.from_bytes(frame[-2:], "little"):
                self._buffer = b""
                break
            parts.extend(self._answer(frame[0], frame[1:-2]))
        return parts

    def _answer(self, unit: int, pdu: bytes) -> list[tuple[float, bytes]]:
        device = self._units.get(unit)
        if device is None:
            return []
        try:
            answer = device.answer(pdu)
        except NoAnswer:
            return []
        body = bytes((unit,)) + answer
        frame = body + crc16(body).to_bytes(2, "little")
        return _distorted(frame, device.frame_faults(), device, device.answer_delay_s)


class RtuConnection(Connection):
    """RTU frames over TCP."""

    def __init__(self, endpoint: Endpoint, connections: set[Connection]) -> None:
        super().__init__(endpoint, connections)
        self._responder = RtuResponder(endpoint.devices)

    def data_received(self, data: bytes) -> None:
        """Answer every complete request in the stream."""
        for delay_s, part in self._responder.respond(data):
            self.endpoint.requests += 1
            self._send_later(delay_s, part)


class SerialLineServer:
    """Devices on a pseudo-terminal; a client opens `path` as its serial port."""

    def __init__(self, devices: tuple[SimulatedDevice, ...]) -> None:
        self._responder = RtuResponder(devices)
        self._master = -1
        self._slave = -1
        self.path = ""

    def start(self) -> None:
        """Open the pseudo-terminal; needs a running event loop."""
        self._master, self._slave = os.openpty()
        tty.setraw(self._master)
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        asyncio.get_running_loop().add_reader(self._master, self._readable)

    def stop(self) -> None:
        """Close it."""
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)
        self._master = -1

    def _readable(self) -> None:
        for delay_s, part in self._responder.respond(os.read(self._master, 512)):
            if delay_s > 0.0:
                asyncio.get_running_loop().call_later(delay_s, self._send, part)
            else:
                self._send(part)

    def _send(self, part: bytes) -> None:
        if self._master >= 0:
            os.write(self._master, part)


def crc16(data: bytes) -> int:
    """The checksum of a serial line frame (V1.02, section 6.2.2)."""
    crc = 0xFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
        table.append(crc)
    return tuple(table)


_CRC_TABLE = _crc_table()


def _request_size(buffer: bytes) -> int | None:
    """The size of the request at the start of the buffer, None where its function has no known size."""
    function = buffer[1]
    if function in FIXED_REQUESTS:
        return FIXED_REQUESTS[function]
    if function in (15, 16):
        return 9 + buffer[6] if len(buffer) >= 7 else 9
    return None


def _distorted(frame: bytes, faults: list[Fault], device: SimulatedDevice, delay_s: float) -> list[tuple[float, bytes]]:
    """What becomes of an answer on a line; faults that need a transaction, a length or a connection lose it."""
    parts = [frame]
    pause_s = 0.0
    for fault in faults:
        if fault.kind is FaultKind.DELAY:
            delay_s += fault.value
        elif fault.kind is FaultKind.SPLIT:
            parts, pause_s = [frame[: len(frame) // 2], frame[len(frame) // 2 :]], SPLIT_PAUSE_S
        elif fault.kind is FaultKind.DUPLICATE:
            parts = [*parts, *parts]
        elif fault.kind is FaultKind.TRUNCATE:
            parts = [frame[: len(frame) // 2]]
        elif fault.kind is FaultKind.GARBAGE_FRAME:
            parts = [device.random_bytes(len(frame))]
        elif fault.kind is FaultKind.WRONG_UNIT:
            body = bytes((frame[0] % 247 + 1,)) + frame[1:-2]
            parts = [body + crc16(body).to_bytes(2, "little")]
        else:
            return []
    return [(delay_s + index * pause_s, part) for index, part in enumerate(parts)]
