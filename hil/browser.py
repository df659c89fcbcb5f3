"""A headless Chromium under the bench's control, over its debugging protocol (Chrome DevTools Protocol 1.3). A shell.

Nothing is installed beside the browser itself: the protocol is JSON over one websocket.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import aiohttp

from hil.broker import die_with_parent
from hil.errors import RunError
from hil.scratch import discard, scratch_folder

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
START_TIMEOUT_S: Final = 60.0
ANSWER_TIMEOUT_S: Final = 60.0
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024


def find_chromium() -> Path | None:
    """The browser's program, where there is one."""
    found = next((path for name in NAMES if (path := shutil.which(name)) is not None), None)
    return None if found is None else Path(found)


class Browser:
    """One browser with one page; `async with`."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self._folder = scratch_folder("browser")
        self._child: subprocess.Popen[bytes] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listening: asyncio.Task[None] | None = None
        self._loaded = asyncio.Event()
        self.complaints: list[str] = []
        self._number = 0

    async def __aenter__(self) -> Browser:
        options = ["--headless=new", "--disable-gpu", "--no-first-run", "--disable-extensions", "--disable-background-networking"]
        options += ["--disable-dev-shm-usage", "--remote-debugging-port=0", f"--user-data-dir={self._folder}", "--hide-scrollbars"]
        if os.geteuid() == 0:
            options.append("--no-sandbox")
        self._child = subprocess.Popen(
            [str(self._program), *options, "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        try:
            self._session = aiohttp.ClientSession()
            address = await self._page_address()
            self._socket = await self._session.ws_connect(address, max_msg_size=MAX_ANSWER_BYTES)
            self._listening = asyncio.create_task(self._listen(self._socket))
            for domain in ("Page", "Runtime", "Log"):
                await self.call(f"{domain}.enable")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listening is not None:
            self._listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listening
        if self._session is not None:
            await self._session.close()
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        discard(self._folder)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol. Raises `RunError` with what the browser says."""
        assert self._socket is not None
        self._number += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[self._number] = answer
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            content = await answer
        if "error" in content:
            raise RunError(f"{method}: {content['error'].get('message', content['error'])}")
        result: dict[str, Any] = content["result"]
        return result

    async def go(self, url: str) -> None:
        """Load a page, and wait until its load event."""
        self._loaded.clear()
        result = await self.call("Page.navigate", url=url)
        if "errorText" in result:
            raise RunError(f"{url}: {result['errorText']}")
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            await self._loaded.wait()

    async def ask(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RunError(f"{expression[:200]}: {result['exceptionDetails'].get('exception', {}).get('description', 'failed')}")
        return result["result"].get("value")

    async def until(self, expression: str, patience_s: float = 20.0) -> Any:
        """Wait until an expression is true in the page; returns its value. Raises `RunError` after `patience_s`."""
        deadline_s = time.monotonic() + patience_s
        while True:
            value = await self.ask(expression)
            if value:
                return value
            if time.monotonic() > deadline_s:
                raise RunError(f"waited {patience_s:.0f} s in vain for {expression}")
            await asyncio.sleep(0.05)

    async def resize(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        """A window of this size in CSS pixels, and light or dark as its user likes."""
        scale = 2 if phone else 1
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone)
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    async def picture(self, path: Path, *, whole: bool = True) -> None:
        """What the page looks like, as PNG."""
        result = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(result["data"]))

    async def _page_address(self) -> str:
        """Where the debugging protocol of the one page is."""
        assert self._child is not None and self._session is not None
        port_file = self._folder / "DevToolsActivePort"
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s and self._child.poll() is None:
            if port_file.is_file() and port_file.read_text(encoding="ascii").strip():
                port = int(port_file.read_text(encoding="ascii").split()[0])
                async with self._session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    pages = [page for page in await answer.json() if page["type"] == "page"]
                if pages:
                    return str(pages[0]["webSocketDebuggerUrl"])
            await asyncio.sleep(0.05)
        raise RunError(f"{self._program} did not start within {START_TIMEOUT_S:.0f} s")

    async def _listen(self, browser: aiohttp.ClientWebSocketResponse) -> None:
        async for message in browser:
            content = message.json()
            if "id" in content:
                waiting = self._waiting.pop(content["id"], None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(content)
                continue
            match content.get("method"):
                case "Page.loadEventFired":
                    self._loaded.set()
                case "Runtime.exceptionThrown":
                    details = content["params"]["exceptionDetails"]
                    self.complaints.append(str(details.get("exception", {}).get("description", details.get("text"))))
                case "Log.entryAdded" if content["params"]["entry"]["level"] == "error":
                    self.complaints.append(f"{content['params']['entry']['text']} {content['params']['entry'].get('url', '')}")
