"""The HTTP boundary of figures and health: what is asked for is answered, everything else is refused, and nothing brings it down."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from protocols.files import FileRefused
from protocols.observation import server as http
from protocols.observation.book import Family, MetricBook
from protocols.observation.health import Check, Health, Verdict, credential_check, measured
from protocols.observation.server import ObservationServer
from protocols.observation.settings import MetricsSection, check_metrics

FAMILIES = (
    Family(name="demo_power_watts", kind="gauge", words="Power."),
    Family(name="demo_faults_total", kind="counter", words="Faults.", labels=("reason",)),
)
WELL = Health(service="demo", description="a demo", version="1", time_s=1_800_000_000.0, checks=(Check(name="a:b", verdict=Verdict.PASS),))
ILL = Health(
    service="demo",
    description="a demo",
    version="1",
    time_s=1_800_000_000.0,
    checks=(
        measured("meter:age", 90.0, "s", warn_above=5.0, fail_above=15.0, words="the meter is silent"),
        Check(name="broker:connected", verdict=Verdict.WARN, words="the broker is away"),
    ),
)
TOKEN = "a-token-of-the-tests"


@asynccontextmanager
async def serving(
    folder: Path, *, health: Callable[[], Health] = lambda: WELL, token: str | None = None, port: int = 0
) -> AsyncIterator[tuple[ObservationServer, MetricBook]]:
    book = MetricBook(FAMILIES)
    if token is not None:
        (folder / "token").touch(mode=0o600)
        (folder / "token").write_text(token + "\n")
    section = MetricsSection(enabled=True, port=port, token_file=None if token is None else "token")
    server = ObservationServer(section, folder, book=book, refresh=lambda: book.set("demo_power_watts", 42.0), health=health)
    await server.start()
    try:
        yield server, book
    finally:
        await server.stop()


async def ask(server: ObservationServer, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(request)
        writer.write_eof()
        async with asyncio.timeout(10.0):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        await hang_up(writer)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def get(server: ObservationServer, path: str, headers: str = "", method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    answer = await ask(server, f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.lower().split(": ", 1) for line in lines[1:]), body


async def test_a_scrape_reads_what_the_book_knows_by_prometheus_own_parser(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, book):
        book.add("demo_faults_total", 2.0, "timeout")
        status, headers, body = await get(server, "/metrics?name=x")
        assert status == 200
        assert headers["content-type"].startswith("text/plain")
        found = {s.name: s.value for family in text_string_to_metric_families(body.decode()) for s in family.samples}
        assert found["demo_power_watts"] == 42.0
        assert found["demo_faults_total"] == 2.0
        assert found["process_resident_memory_bytes"] > 1e6


async def test_health_is_a_verdict_with_its_reasons_and_a_status_code(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, _):
        status, headers, body = await get(server, "/health")
        assert (status, headers["content-type"], json.loads(body)["status"]) == (200, "application/health+json", "pass")
    async with serving(tmp_path, health=lambda: ILL) as (server, _):
        status, _, body = await get(server, "/health")
        document = json.loads(body)
        assert (status, document["status"]) == (503, "fail")
        assert document["output"] == "meter:age: the meter is silent; broker:connected: the broker is away"
        assert document["checks"]["meter:age"] == [
            {"status": "fail", "time": "2027-01-15T08:00:00Z", "output": "the meter is silent", "observedValue": 90.0, "observedUnit": "s"}
        ]


async def test_a_stranger_learns_the_verdict_and_no_figure(tmp_path: Path) -> None:
    async with serving(tmp_path, health=lambda: ILL, token=TOKEN) as (server, _):
        assert (await get(server, "/metrics"))[0] == 401
        assert (await get(server, "/metrics", "Authorization: Bearer wrong-token-of-the-tests\r\n"))[0] == 401
        assert (await get(server, "/metrics", f"Authorization: Bearer {TOKEN}\r\n"))[0] == 200
        assert json.loads((await get(server, "/health"))[2]) == {"status": "fail"}
        assert "checks" in json.loads((await get(server, "/health", f"Authorization: Bearer {TOKEN}\r\n"))[2])


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /metrics/../health HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"DELETE /health HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\n" + b"x" * 9000, 413),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 20_000, 431),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200, 400),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    ],
)
async def test_what_is_not_asked_properly_is_refused_by_name(tmp_path: Path, request_: bytes, status: int) -> None:
    async with serving(tmp_path) as (server, _):
        assert (await ask(server, request_)).split(b" ")[1] == str(status).encode()
        assert (await get(server, "/health"))[0] == 200


async def test_a_head_request_gets_the_head_alone_and_a_connection_serves_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, _):
        assert (await get(server, "/health", method="HEAD"))[2] == b""
        answer = await ask(server, 3 * b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.count(b"HTTP/1.1 200") == 3


async def test_who_says_nothing_is_hung_up_on_and_too_many_are_turned_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PATIENCE_S", 0.05)
    async with serving(tmp_path) as (server, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /hea")
        async with asyncio.timeout(10.0):
            assert await reader.read() == b""
        await hang_up(writer)
    monkeypatch.setattr(http, "PATIENCE_S", 60.0)
    monkeypatch.setattr(http, "MAX_CLIENTS", 2)
    async with serving(tmp_path) as (server, _):
        idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        assert await ask(server, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        for _, writer in idle:
            await hang_up(writer)


async def fuzz(server: ObservationServer, rng: random.Random, count: int) -> None:
    """Damaged requests: whatever comes back is HTTP with a status of its own, or nothing."""
    seeds = [
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /health HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"GET /health?a=b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer xyz\r\nExpect: 100-continue\r\n\r\n",
    ]
    for number in range(count):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(8)):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(4):
                case 0:
                    data[at:at] = rng.randbytes(rng.randrange(1, 40))
                case 1:
                    del data[at : at + rng.randrange(1, 20)]
                case 2 if at < len(data):
                    data[at] = rng.randrange(256)
                case _:
                    data[at:at] = data[: rng.randrange(len(data) + 1)]
        answer = await ask(server, bytes(data))
        assert answer == b"" or answer.split(b" ")[1] in (b"200", b"400", b"401", b"404", b"405", b"413", b"431", b"501"), (number, data)


async def test_garbage_brings_nothing_down(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, _):
        await fuzz(server, random.Random(5), 400)
        assert (await get(server, "/health"))[0] == 200


@pytest.mark.slow
async def test_ten_thousand_damaged_requests_bring_nothing_down(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, _):
        await fuzz(server, random.Random(6), 10_000)
        assert (await get(server, "/health"))[0] == 200


def test_others_reach_the_figures_only_with_a_token() -> None:
    assert check_metrics(MetricsSection(enabled=True, host="::1")) is None
    assert check_metrics(MetricsSection(enabled=False, host="0.0.0.0")) is None
    assert check_metrics(MetricsSection(enabled=True, host="0.0.0.0", token_file="t")) is None
    for host in ("0.0.0.0", "192.168.1.7", "edge.example"):
        problem = check_metrics(MetricsSection(enabled=True, host=host))
        assert problem is not None and problem.endswith("at $.metrics.host")


@pytest.mark.parametrize(("content", "mode"), [("short", 0o600), ("with a space in it, long", 0o600), (TOKEN, 0o644)])
def test_a_token_that_is_no_secret_is_refused(tmp_path: Path, content: str, mode: int) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(FileRefused) as refused:
        http.read_token(path)
    assert content not in str(refused.value)


def test_a_certificate_is_healthy_until_a_month_before_its_end() -> None:
    day_s = 86400.0
    verdicts = [credential_check("certificate:node", expires_s, 0.0).verdict for expires_s in (40 * day_s, 20 * day_s, -day_s, None)]
    assert verdicts == [Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.PASS]
