"""`commonwatt-edge doctor` on a household with a real broker and real device sockets: each thing that breaks is named, with a remedy."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.cli import main
from edge.upkeep.expiry_log import ExpiryLog
from edge.upkeep.findings import (
    DAY_S,
    Finding,
    Verdict,
    expiry_words,
    judge_certificates,
    judge_clock,
    judge_controls,
    judge_disk,
    worst,
)
from edge.upkeep.live import LiveControls
from hil.devices.house import HouseSpec
from protocols.messages import DefaultControl, SafetyState
from tests.deployment.community import Brokers, Community, Voice
from tests.edge.commissioning.household import CommissionedHouse

NOW_S = 1_800_000_000.0


class Household:
    """A member whose configuration `init` and `enrol` wrote, devices on sockets, and the community's broker."""

    def __init__(self, community: Community, house: CommissionedHouse) -> None:
        self.community, self.house = community, house
        self.config = community.base / "h07.toml"

    async def doctor(self, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, list[dict[str, Any]]]]:
        """Exit status, and the findings by check."""
        capsys.readouterr()
        code = await asyncio.to_thread(main, ["doctor", "--config", str(self.config), "--json"])
        document = json.loads(capsys.readouterr().out)
        by_check: dict[str, list[dict[str, Any]]] = {}
        for finding in document["findings"]:
            by_check.setdefault(finding["check"], []).append(finding)
            assert finding["verdict"] == "ok" or finding["remedy"], "whatever is not ok has a remedy"
        assert document["verdict"] == worst(msgspec.convert(document["findings"], list[Finding]))
        return code, by_check


@pytest.fixture
async def household(tmp_path: Path) -> AsyncIterator[Household]:
    community = Community(tmp_path)
    async with CommissionedHouse(HouseSpec(ev_max_a=0.0)) as house:
        places = [f"127.0.0.1:{endpoint.port}" for endpoint in house.endpoints]
        config = str(tmp_path / "h07.toml")
        arguments = ["init", *places, "--config", config, "--import-rating-w", "14490", "--export-rating-w", "5000", "--no-step"]
        assert await asyncio.to_thread(main, [*arguments, "--identity", str(tmp_path / "h07"), "--timeout-s", "5"]) == 0
        await asyncio.to_thread(community.enrol, "h07", "load18")
        with Brokers(community, "mosquitto"):
            yield Household(community, house)


async def test_init_and_enrol_leave_a_household_in_which_only_the_service_is_missing(
    household: Household, capsys: pytest.CaptureFixture[str]
) -> None:
    Voice(household.community).status(SafetyState.ONLINE, time.time())
    written = len(household.house.written)
    code, found = await household.doctor(capsys)
    assert code == 1
    assert found["service"][0]["verdict"] == "fail" and "systemctl" in found["service"][0]["remedy"]
    assert [f["verdict"] for f in found["devices"]] == ["ok", "ok", "ok"]
    assert found["broker"][0]["verdict"] == "ok" and "coordinator is online" in found["broker"][0]["what"]
    assert [f["verdict"] for check in ("configuration", "disk", "keys", "certificates") for f in found[check]] == ["ok"] * 5
    assert found["envelope"][0]["verdict"] == "warn"
    assert len(household.house.written) == written, "the doctor writes to no device"
    assert sorted(path.name for path in household.community.base.glob(".doctor*")) == []


async def test_each_thing_that_breaks_is_named(household: Household, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = await household.doctor(capsys)
    assert "has said nothing" in found["broker"][0]["what"]
    Voice(household.community).status(SafetyState.ONLINE, time.time() + 3600.0)
    code, found = await household.doctor(capsys)
    assert found["clock"][0]["verdict"] == "fail" and "behind the coordinator" in found["clock"][0]["what"]
    (household.community.base / "state.json").write_bytes(b"damaged")
    household.house.server.drop_connections(household.house.endpoints[1].port)
    household.house.server._servers[1].close()
    current = household.community.identity("h07") / "current"
    (current / "signing.key").chmod(0o644)
    code, found = await household.doctor(capsys)
    assert code == 1
    assert "not a state file" in found["disk"][0]["what"]
    assert (household.community.base / "state.json").read_bytes() == b"damaged"
    assert [f["verdict"] for f in found["devices"]] == ["ok", "fail", "ok"] and "pv: " in found["devices"][1]["what"]
    assert "chmod 600" in found["keys"][0]["what"]


async def test_a_revoked_node_a_strange_broker_and_a_silent_one_are_told_apart(
    household: Household, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert await asyncio.to_thread(household.community.coordinator, "revoke", "h07") == 0
    for _ in range(20):
        _, found = await household.doctor(capsys)
        if found["broker"][0]["verdict"] == "fail":
            break
    assert "revoked" in found["broker"][0]["remedy"], "the broker reads its revocations soon, not at once"
    stranger = Community(tmp_path_factory.mktemp("stranger"))
    text = household.config.read_text()
    with Brokers(stranger, "mosquitto"):
        household.config.write_text(text.replace(f"port = {household.community.port}", f"port = {stranger.port}"))
        _, found = await household.doctor(capsys)
        assert "not believed" in found["broker"][0]["what"]
    household.config.write_text(text.replace(f"port = {household.community.port}", "port = 1"))
    _, found = await household.doctor(capsys)
    assert "cannot connect" in found["broker"][0]["what"]
    household.config.write_text("[site]\n")
    code, found = await household.doctor(capsys)
    assert code == 2 and list(found) == ["configuration"]


def test_the_clock_is_judged_by_what_is_certainly_past() -> None:
    def judge(**facts: Any) -> Verdict:
        given = {"synchronised": True, "now_s": NOW_S, "valid_from_s": NOW_S - 1e6, "heard_s": NOW_S - 5.0} | facts
        return judge_clock(**given).verdict

    assert judge() is Verdict.OK
    assert judge(synchronised=None, valid_from_s=None, heard_s=None) is Verdict.OK
    assert judge(synchronised=False) is Verdict.WARN
    assert judge(valid_from_s=NOW_S + 60.0) is Verdict.FAIL, "1970, as after a flat battery"
    assert judge(heard_s=NOW_S + 31.0) is Verdict.FAIL
    assert judge(heard_s=NOW_S + 29.0) is Verdict.OK


def test_certificates_warn_a_month_ahead() -> None:
    verdicts = {days: judge_certificates({"node": NOW_S + days * DAY_S}, NOW_S)[0].verdict for days in (-1.0, 0.0, 1.0, 29.9, 30.1)}
    assert verdicts == {-1.0: Verdict.FAIL, 0.0: Verdict.FAIL, 1.0: Verdict.WARN, 29.9: Verdict.WARN, 30.1: Verdict.OK}
    assert expiry_words(NOW_S - 2.0 * DAY_S, NOW_S) == "expired 2 d ago"


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        ({}, Verdict.OK), ({"sync_s": None}, Verdict.FAIL), ({"free_bytes": 1e6}, Verdict.FAIL), ({"free_bytes": 1e8}, Verdict.WARN),
        ({"trouble": "damaged"}, Verdict.FAIL), ({"set_aside": True}, Verdict.WARN), ({"sync_s": 2.0}, Verdict.WARN),
    ],
)  # fmt: skip
def test_a_disk_that_is_full_slow_or_lying_is_found(facts: dict[str, Any], verdict: Verdict) -> None:
    given: dict[str, Any] = {"free_bytes": 1e10, "sync_s": 0.003, "trouble": "", "set_aside": False}
    assert judge_disk(**(given | facts)).verdict is verdict


def test_the_envelope_is_fine_only_while_a_control_and_a_default_are_known() -> None:
    default = DefaultControl(sender="coordinator", time_s=NOW_S, sequence=1, node="h07", mrid="d", export_limit_w=0.0)
    assert judge_controls(None, NOW_S).verdict is Verdict.WARN
    assert judge_controls(LiveControls(default=default), NOW_S).verdict is Verdict.WARN
    assert judge_controls(LiveControls(count=2, until_s=NOW_S + 60.0), NOW_S).verdict is Verdict.WARN
    good = judge_controls(LiveControls(count=2, until_s=NOW_S + 60.0, default=default), NOW_S)
    assert good.verdict is Verdict.OK and "export <= 0 W" in good.what, "a limit of zero is a limit"


def test_the_log_warns_once_a_day_and_an_error_in_the_last_week(caplog: pytest.LogCaptureFixture) -> None:
    expiries = {"node": NOW_S + 12.0 * DAY_S, "authority": NOW_S + 900.0 * DAY_S}
    watch = ExpiryLog(lambda: expiries)
    for hour in range(24 * 14):
        for second in (0.0, 1800.0):
            watch.look(NOW_S + 3600.0 * hour + second)
    levels = [record.levelno for record in caplog.records]
    assert levels == [logging.WARNING] * 5 + [logging.ERROR] * 9
    assert caplog.messages[0] == (
        "certificate of the node expires in 12 d; commonwatt-edge renew asks for a new certificate; commonwatt-edge doctor says more"
    )
    assert "expired" in caplog.messages[-1]
    assert not any("authority" in message for message in caplog.messages)


def test_a_renewed_certificate_that_is_not_in_use_yet_is_said(caplog: pytest.LogCaptureFixture) -> None:
    expiries = {"node": NOW_S + 40.0 * DAY_S}
    watch = ExpiryLog(lambda: expiries)
    watch.look(NOW_S)
    assert caplog.messages == []
    expiries["node"] += 365.0 * DAY_S
    watch.look(NOW_S + 3601.0)
    assert "restarted" in caplog.messages[-1]
