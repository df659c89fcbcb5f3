"""The page in a real headless Chromium: it renders, follows what is said, comes back by itself, and shows a stranger no household."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator.enrolment.page_tokens import token_hash
from hil.broker import find_mosquitto
from hil.browser import Browser, find_chromium
from hil.errors import RunError
from hil.page_world import COMMUNITY, TalkingCommunity
from protocols.messages import SafetyState

CHROMIUM, MOSQUITTO = find_chromium(), find_mosquitto()
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.skipif(MOSQUITTO is None, reason="no Mosquitto here: commonwatt-hil broker --install"),
]
TOKEN = "the token of the second home"
SECRET_W = 4321.9


@pytest.fixture
async def world() -> AsyncIterator[TalkingCommunity]:
    async with TalkingCommunity(12) as talking:
        talking.say_status("coordinator", SafetyState.ONLINE)
        for name in talking.homes:
            talking.say_telemetry(name, net_import_w=1000.0)
        yield talking


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    assert CHROMIUM is not None
    async with Browser(CHROMIUM) as shown:
        yield shown


async def show(world: TalkingCommunity, browser: Browser) -> None:
    await browser.go(world.url)
    await browser.until("document.getElementById('live').classList.contains('on')")


async def repeated(world: TalkingCommunity, browser: Browser, expression: str) -> None:
    """Homes report again and again, as they do, until the expression holds: who listens late has missed the first reports."""
    for attempt in range(20):
        for name in world.homes:
            world.say_telemetry(name, net_import_w=1000.0)
        try:
            await browser.until(expression, 1.0)
        except RunError:
            if attempt == 19:
                raise
        else:
            return


async def test_it_shows_the_feeder_and_what_is_said_while_it_is_open(world: TalkingCommunity, browser: Browser) -> None:
    await show(world, browser)
    assert await browser.ask("document.querySelectorAll('#diagram .place').length") == 2 + 6 + 12, "grid, bar, poles and homes"
    await repeated(world, browser, "document.getElementById('feeder-state').textContent === 'within limits'")
    for name in world.homes:
        world.say_telemetry(name, net_import_w=5000.0)
    assert await browser.until("document.getElementById('net').textContent === 'imports 60.0 kW'")
    world.say_status(world.homes[0], SafetyState.CONTROLLED)
    world.say_status(world.homes[0], SafetyState.FAILSAFE, "the meter is silent")
    await browser.until("document.getElementById('events').textContent.includes('home_001: failsafe: the meter is silent')")
    for name in world.homes:
        world.say_telemetry(name, net_import_w=40_000.0)
    await browser.until("document.getElementById('feeder-state').textContent === 'outside limits'")
    assert "▼" in await browser.ask("document.getElementById('diagram').textContent"), "a colour alone is not enough"
    assert browser.complaints == [], "nothing broke the content security policy, and no script failed"


async def test_it_says_that_the_broker_is_gone_and_comes_back_by_itself(world: TalkingCommunity, browser: Browser) -> None:
    await show(world, browser)
    assert world.page.broker is not None
    await asyncio.to_thread(world.page.broker.stop)
    await browser.until("document.getElementById('banner').textContent.startsWith('The live connection is gone.')")
    assert await browser.ask("document.getElementById('net').textContent") != "–", "what was known is still shown"
    await asyncio.to_thread(world.page.broker.start)
    await browser.until("document.getElementById('live').classList.contains('on') && document.getElementById('banner').hidden", 30.0)
    await asyncio.to_thread(world.broker.stop)
    await browser.until("document.getElementById('live').textContent === \"the homes' broker is away\"")
    await asyncio.to_thread(world.broker.start)
    await browser.until("document.getElementById('live').classList.contains('on')", 60.0)
    for name in world.homes:
        world.say_telemetry(name, net_import_w=1000.0)
    await browser.until("document.getElementById('net').textContent === 'imports 12.0 kW'", 30.0)


async def test_a_stranger_sees_no_household_and_a_household_itself_alone(world: TalkingCommunity, browser: Browser) -> None:
    world.page.close_to_strangers({"home_002": token_hash(TOKEN)})
    await asyncio.to_thread(world.page.restart)
    await show(world, browser)
    for name in world.homes:
        world.say_telemetry(name, net_import_w=SECRET_W if name == "home_002" else 1000.0)
    await browser.until(f"document.getElementById('net').textContent === 'imports {(11_000.0 + SECRET_W) / 1000.0:.1f} kW'")
    for secret in ("home_0", "4.3 kW", "4321"):
        assert secret not in await browser.ask("document.documentElement.outerHTML")
    assert await browser.ask("document.getElementById('home-panel').hidden && document.getElementById('homes-panel').hidden")
    await browser.ask(f"sessionStorage.setItem('login', {json.dumps(json.dumps({'name': 'home_002', 'token': TOKEN}))})")
    await show(world, browser)
    await browser.until("document.getElementById('home-net').textContent === 'imports 4.3 kW'")
    world.say_telemetry("home_002", net_import_w=-2000.0)
    await browser.until("document.getElementById('home-net').textContent === 'exports 2.0 kW'")
    text = await browser.ask("document.body.innerText")
    assert not any(name in text for name in world.homes if name != "home_002")
    await browser.ask("document.getElementById('login-open').click()")
    await browser.until("document.getElementById('home-panel').hidden")


async def test_it_can_be_used_by_keyboard_and_read_on_a_phone(world: TalkingCommunity, browser: Browser) -> None:
    await browser.resize(390, 844, phone=True)
    await show(world, browser)
    assert await browser.ask("document.documentElement.scrollWidth") <= 390, "nothing has to be scrolled sideways"
    unnamed = "[...document.querySelectorAll('button, input')].filter((one) => !one.labels?.length && !one.textContent.trim()).length"
    assert await browser.ask(unnamed) == 0, "every control has a name"
    await browser.ask("document.querySelector('#diagram [role=button]').focus()")
    for kind in ("keyDown", "keyUp"):
        await browser.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    assert await browser.until("!document.getElementById('home-panel').hidden && document.getElementById('home-title').textContent")


async def test_a_name_that_is_markup_stays_text(world: TalkingCommunity, browser: Browser, tmp_path: Path) -> None:
    await show(world, browser)
    world.say_status("coordinator", SafetyState.ONLINE, "store: <img src=x onerror=alert(1)>")
    await browser.until("document.getElementById('coordinator-words').textContent.includes('<img')")
    assert await browser.ask("document.querySelectorAll('#coordinator-words img, .events img').length") == 0
    await browser.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000
    assert COMMUNITY in await browser.ask("document.title")
