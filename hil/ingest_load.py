"""`python -m hil.ingest_load PORT NODES`: thousands of connected edges that only report, in one process that costs little.

Every edge has its own connection, key and sequence numbers. Packets are made and signed before a stretch begins, because on hardware of
their own all edges sign at the same time, and each says the time at which it is due; the bytes on the wire are those of the shipped edge
(`hil.ingest_packets`). What a report costs here is one `send` and the reading of its acknowledgement. Keep-alive is off: an edge that
reports more often than its keep-alive never sends a ping. Orders come on stdin, one JSON document a line (`rate` in messages per second,
`seconds`, `file`), the answer to each on stdout. `file` gets one row for each report: edge, sequence number, time just before it was
sent, time at which the broker's acknowledgement was read (0 if never).
"""

from __future__ import annotations

import json
import resource
import select
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import Final

import numpy as np

from hil.errors import RunError
from hil.ingest_keys import COMMUNITY, key_of, name_of
from hil.ingest_packets import CONNACK, PUBACK, connect_packet, publish_packet, split_packets
from protocols.messages import SafetyState, Telemetry
from protocols.signing import Sequencer, Signer
from protocols.topics import node_topic

CONNECT_TIMEOUT_S: Final = 120.0
DRAIN_TIMEOUT_S: Final = 30.0
SIGNING_S: Final = 2.5e-4
"""What making one packet is first expected to take; doubled until the due times that the packets name lie ahead."""
REFUSED: Final = 0x80


class Edge:
    """One connection. What the broker has not acknowledged waits, by packet identifier, in the order of its sending."""

    def __init__(self, index: int, port: int) -> None:
        self.index = index
        self.connected = False
        self.waiting: dict[int, int] = {}
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(connect_packet(name_of(index)))
        self.socket.setblocking(False)
        self._signer = Signer(key_of(index))
        self._sequencer = Sequencer(time.time())
        self._topic = node_topic(COMMUNITY, name_of(index), "telemetry")
        self._identifier = 0
        self._received = b""

    def report(self, time_s: float) -> tuple[bytes, int, int]:
        """A signed report as an edge sends it, its packet identifier and its sequence number."""
        sequence = self._sequencer.next()
        message = Telemetry(
            sender=name_of(self.index),
            time_s=time_s,
            sequence=sequence,
            start_s=time_s - 5.0,
            duration_s=5.0,
            net_import_w=-1234.5 + self.index,
            load_w=512.5,
            pv_w=-2400.0,
            battery_w=653.0,
            ev_w=None,
            soc_frac=0.5625,
            voltage_v=(241.3,),
            energy_import_wh=1_234_567.0,
            energy_export_wh=2_345_678.0,
            import_limit_w=5000.0,
            export_limit_w=1500.0,
            exceeded_s=0.0,
            state=SafetyState.CONTROLLED,
        )
        self._identifier = self._identifier % 65535 + 1
        return publish_packet(self._signer.seal(self._topic, message, expiry_s=3600), self._identifier), self._identifier, sequence

    def send(self, packet: bytes, identifier: int, number: int) -> None:
        """Send at once; `number` is the report's place in the stretch."""
        self.waiting[identifier] = number
        if self.socket.send(packet) != len(packet):
            raise RunError(f"the broker does not read what {name_of(self.index)} sends")

    def read(self) -> list[int]:
        """The places of the reports that the broker has acknowledged now."""
        data = self.socket.recv(4096)
        if data == b"":
            raise RunError(f"the broker closed the connection of {name_of(self.index)}")
        packets, self._received = split_packets(self._received + data)
        numbers = []
        for kind, body in packets:
            if kind == CONNACK:
                self.connected = body[1] == 0
            elif kind == PUBACK and (len(body) == 2 or body[2] < REFUSED):
                numbers.append(self.waiting.pop(int.from_bytes(body[:2], "big")))
        return numbers


class Edges:
    """All connections, watched together."""

    def __init__(self, port: int, nodes: int) -> None:
        self._poll = select.epoll()
        self._of: dict[int, Edge] = {}
        self._all: list[Edge] = []
        for index in range(nodes):
            edge = Edge(index, port)
            self._all.append(edge)
            self._of[edge.socket.fileno()] = edge
            self._poll.register(edge.socket, select.EPOLLIN)
        deadline_s = time.monotonic() + CONNECT_TIMEOUT_S
        while not all(edge.connected for edge in self._all):
            if time.monotonic() > deadline_s:
                raise RunError(f"only {sum(edge.connected for edge in self._all)} of {nodes} edges found the broker")
            self._read(0.05)

    def stretch(self, rate: float, seconds: float, file: Path) -> dict[str, float]:
        """Publish at an even rate, edge after edge; wait for what is still unacknowledged at the end."""
        count = round(rate * seconds)
        begin_s, reports = self._prepared(rate, count)
        published_s, acknowledged_s = np.zeros(count), np.zeros(count)
        while (left_s := begin_s - time.time()) > 0.0:
            time.sleep(left_s)
        used_s, late_s = _cpu_s(), 0.0
        for number, (edge, packet, identifier, _) in enumerate(reports):
            due_s = begin_s + number / rate
            acknowledged = self._read(0.0) if number % 8 == 0 else []
            while (left_s := due_s - time.time()) > 0.0:
                acknowledged += self._read(left_s)
            now_s = time.time()
            acknowledged_s[acknowledged] = now_s
            late_s = max(late_s, now_s - due_s)
            published_s[number] = now_s
            edge.send(packet, identifier, number)
        spent_s = time.time() - begin_s
        deadline_s = time.monotonic() + DRAIN_TIMEOUT_S
        while any(edge.waiting for edge in self._all) and time.monotonic() < deadline_s:
            acknowledged_s[self._read(0.05)] = time.time()
        used_s = _cpu_s() - used_s
        for edge in self._all:
            edge.waiting.clear()
        index, sequence = [edge.index for edge, *_ in reports], [last for *_, last in reports]
        np.save(file, np.column_stack((index, sequence, published_s, acknowledged_s)))
        return {
            "published": count,
            "acknowledged": int(np.count_nonzero(acknowledged_s)),
            "seconds": spent_s,
            "cpu_s": used_s,
            "late_s": late_s,
        }

    def _prepared(self, rate: float, count: int) -> tuple[float, deque[tuple[Edge, bytes, int, int]]]:
        """When the stretch begins, and its packets, each of which names its own due time."""
        allowed_s = SIGNING_S
        while True:
            begin_s = time.time() + 1.0 + count * allowed_s
            reports = deque[tuple[Edge, bytes, int, int]]()
            for number in range(count):
                edge = self._all[number % len(self._all)]
                reports.append((edge, *edge.report(begin_s + number / rate)))
            if time.time() < begin_s:
                return begin_s, reports
            allowed_s *= 2.0

    def _read(self, timeout_s: float) -> list[int]:
        return [number for descriptor, _ in self._poll.poll(timeout_s) for number in self._of[descriptor].read()]


def main() -> None:
    """Connect, say so, and follow orders until stdin ends."""
    edges = Edges(int(sys.argv[1]), int(sys.argv[2]))
    _say({"connected": int(sys.argv[2])})
    for line in sys.stdin:
        order = json.loads(line)
        _say(edges.stretch(float(order["rate"]), float(order["seconds"]), Path(order["file"])))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _say(document: dict[str, float]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
