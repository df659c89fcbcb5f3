"""`python -m hil.ingest_load PORT NODES`: thousands of connected edges that only report, in one process that costs little.

Every edge has its own connection, key and sequence numbers. Reports are signed before a stretch begins, because on hardware of their own
all edges sign at the same time; the messages on the wire are those of the shipped edge. Orders come on stdin, one JSON document a line
(`rate` in messages per second, `seconds`, `file`), the answer to each on stdout. `file` gets one row for each report: edge, sequence
number, time at which it was published, time at which the broker acknowledged it (0 if never).
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from hil.errors import RunError
from hil.ingest_keys import COMMUNITY, key_of, name_of
from protocols.bus import BusMessage
from protocols.messages import SafetyState, Telemetry
from protocols.signing import Sequencer, Signer
from protocols.topics import node_topic

KEEPALIVE_S: Final = 60
MISC_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 120.0
DRAIN_TIMEOUT_S: Final = 30.0


class Edge:
    """One connection. Its socket is watched by the loop of the process."""

    def __init__(self, index: int, port: int, loop: asyncio.AbstractEventLoop) -> None:
        self.index = index
        self.signer = Signer(key_of(index))
        self.sequencer = Sequencer(time.time())
        self.topic = node_topic(COMMUNITY, name_of(index), "telemetry")
        self.connected = False
        self.waiting: dict[int, int] = {}
        self.acknowledged_s: dict[int, float] = {}
        self._loop = loop
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name_of(index), protocol=mqtt.MQTTv5)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_publish = self._on_publish
        self.client.on_socket_open = lambda _c, _u, sock: loop.add_reader(sock, self.client.loop_read)
        self.client.on_socket_close = self._on_close
        self.client.on_socket_register_write = lambda _c, _u, sock: loop.add_writer(sock, self.client.loop_write)
        self.client.on_socket_unregister_write = self._on_unregister_write
        self.client.connect("127.0.0.1", port, keepalive=KEEPALIVE_S)

    def report(self, time_s: float) -> tuple[BusMessage, int]:
        """A signed report as an edge sends it, and its sequence number."""
        sequence = self.sequencer.next()
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
        return self.signer.seal(self.topic, message, expiry_s=3600), sequence

    def publish(self, message: BusMessage, number: int) -> None:
        """Send; `number` is the report's place in the stretch."""
        properties: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.UserProperty = list(message.properties.items())
        properties.MessageExpiryInterval = message.expiry_s
        info = self.client.publish(message.topic, message.payload, 1, False, properties)
        self.waiting[info.mid] = number

    def _on_connect(self, *_: Any) -> None:
        self.connected = True

    def _on_disconnect(self, *_: Any) -> None:
        self.connected = False

    def _on_publish(self, _client: Any, _userdata: Any, mid: int, *_: Any) -> None:
        number = self.waiting.pop(mid, None)
        if number is not None:
            self.acknowledged_s[number] = time.time()

    def _on_unregister_write(self, _client: Any, _userdata: Any, sock: Any) -> None:
        self._loop.remove_writer(sock)

    def _on_close(self, _client: Any, _userdata: Any, sock: Any) -> None:
        self._loop.remove_reader(sock)
        self._loop.remove_writer(sock)


def main() -> None:
    """Connect, say so, and follow orders until stdin ends."""
    asyncio.run(_run(int(sys.argv[1]), int(sys.argv[2])))


async def _run(port: int, nodes: int) -> None:
    loop = asyncio.get_running_loop()
    edges: list[Edge] = []
    for index in range(nodes):
        edges.append(Edge(index, port, loop))
        await asyncio.sleep(0)
    deadline_s = time.monotonic() + CONNECT_TIMEOUT_S
    while not all(edge.connected for edge in edges):
        if time.monotonic() > deadline_s:
            raise RunError(f"only {sum(edge.connected for edge in edges)} of {nodes} edges found the broker")
        await asyncio.sleep(0.05)
    upkeep = loop.create_task(_upkeep(edges))
    _say({"connected": nodes})
    while (line := await loop.run_in_executor(None, sys.stdin.readline)) != "":
        order = json.loads(line)
        _say(await _stretch(edges, float(order["rate"]), float(order["seconds"]), Path(order["file"])))
    upkeep.cancel()


async def _stretch(edges: list[Edge], rate: float, seconds: float, file: Path) -> dict[str, float]:
    """Publish at an even rate, edge after edge; wait for what is still unacknowledged at the end."""
    count = round(rate * seconds)
    begin_s = time.time() + 2.0 + count * 2.5e-4
    reports = [edges[number % len(edges)].report(begin_s + number / rate) for number in range(count)]
    published_s = np.zeros(count)
    begin_s = max(begin_s, time.time() + 0.5)
    cpu_s = _cpu_s()
    late_s = 0.0
    for number, at_s in enumerate(_times(begin_s, rate, count)):
        while (left_s := at_s - time.time()) > 0.0:
            await asyncio.sleep(left_s)
        if number % 16 == 0:
            await asyncio.sleep(0)
        late_s = max(late_s, -left_s)
        published_s[number] = time.time()
        edges[number % len(edges)].publish(reports[number][0], number)
    spent_s = time.time() - begin_s
    deadline_s = time.monotonic() + DRAIN_TIMEOUT_S
    while any(edge.waiting for edge in edges) and time.monotonic() < deadline_s:
        await asyncio.sleep(0.05)
    cpu_s = _cpu_s() - cpu_s
    acknowledged_s = np.zeros(count)
    for edge in edges:
        for number, at_s in edge.acknowledged_s.items():
            acknowledged_s[number] = at_s
        edge.acknowledged_s.clear()
        edge.waiting.clear()
    index = np.arange(count) % len(edges)
    np.save(file, np.column_stack((index, [sequence for _, sequence in reports], published_s, acknowledged_s)))
    return {
        "published": count,
        "acknowledged": int(np.count_nonzero(acknowledged_s)),
        "seconds": spent_s,
        "cpu_s": cpu_s,
        "late_s": late_s,
        "connected": sum(edge.connected for edge in edges),
    }


def _times(begin_s: float, rate: float, count: int) -> Iterator[float]:
    for number in range(count):
        yield begin_s + number / rate


async def _upkeep(edges: list[Edge]) -> None:
    """Keep the connections alive, a few at a time."""
    while True:
        for edge in edges:
            edge.client.loop_misc()
            await asyncio.sleep(MISC_S / len(edges))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _say(document: dict[str, float]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
