"""A Modbus endpoint on a real loopback socket whose answers are made byte by byte, so that it can answer as badly as devices do."""

import asyncio
import struct
from collections.abc import Callable

Answer = bytes | None | tuple[float, bytes]
"""What to send: bytes, nothing, or bytes after a delay in seconds."""


class Request:
    """One request frame: `data` is what follows the function code."""

    def __init__(self, transaction: int, unit: int, function: int, data: bytes) -> None:
        self.transaction = transaction
        self.unit = unit
        self.function = function
        self.data = data
        self.address, self.count = struct.unpack(">HH", data[:4])

    def registers(self, first: int | None = None) -> bytes:
        """A correct answer: register n holds n."""
        start = self.address if first is None else first
        return bytes([self.function, 2 * self.count]) + struct.pack(f">{self.count}H", *range(start, start + self.count))

    def acknowledged(self) -> bytes:
        """A correct acknowledgement of a write."""
        return bytes([self.function]) + self.data[:4]


def crc16(data: bytes) -> bytes:
    """MODBUS over Serial Line V1.02, section 6.2.2, bit by bit."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return value.to_bytes(2, "little")


class AwkwardServer:
    """`answer(request)` gives the PDU to send back; `frame` may give a whole frame instead."""

    def __init__(self, answer: Callable[[Request], Answer], *, rtu: bool = False) -> None:
        self.answer = answer
        self.rtu = rtu
        self.frame: Callable[[Request], bytes | None] | None = None
        self.connections = 0
        self.requests: list[Request] = []
        self.times_s: list[float] = []
        self.close_after: int | None = None
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "AwkwardServer":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self._writers.append(writer)
        try:
            while True:
                request = await (self._rtu_request(reader) if self.rtu else self._tcp_request(reader))
                self.requests.append(request)
                self.times_s.append(asyncio.get_running_loop().time())
                if self.close_after is not None and len(self.requests) >= self.close_after:
                    self.close_after = None
                    return
                self._reply(writer, request)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _tcp_request(self, reader: asyncio.StreamReader) -> Request:
        head = await reader.readexactly(8)
        transaction, _, length, unit, function = struct.unpack(">HHHBB", head)
        return Request(transaction, unit, function, await reader.readexactly(length - 2))

    async def _rtu_request(self, reader: asyncio.StreamReader) -> Request:
        head = await reader.readexactly(6)
        data = head[2:]
        if head[1] == 16:
            size = (await reader.readexactly(1))[0]
            data += bytes([size]) + await reader.readexactly(size)
        await reader.readexactly(2)
        return Request(0, head[0], head[1], data)

    def _reply(self, writer: asyncio.StreamWriter, request: Request) -> None:
        if self.frame is not None:
            whole = self.frame(request)
            if whole is not None:
                writer.write(whole)
                return
        answer = self.answer(request)
        if answer is None:
            return
        delay_s, pdu = answer if isinstance(answer, tuple) else (0.0, answer)
        frame = self.framed(request, pdu)
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self._late, writer, frame)
        else:
            writer.write(frame)

    def framed(self, request: Request, pdu: bytes) -> bytes:
        if self.rtu:
            body = bytes([request.unit]) + pdu
            return body + crc16(body)
        return struct.pack(">HHHB", request.transaction, 0, len(pdu) + 1, request.unit) + pdu

    @staticmethod
    def _late(writer: asyncio.StreamWriter, frame: bytes) -> None:
        if not writer.is_closing():
            writer.write(frame)
