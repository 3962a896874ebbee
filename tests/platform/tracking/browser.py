"""A real browser, driven by its own driver over the W3C's protocol, which is JSON over HTTP."""

import base64
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

LOOPBACK = "127.0.0.1"


def programs() -> tuple[str, str]:
    """The browser and its driver; skips where one is absent."""
    driver = shutil.which("chromedriver")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if driver is None or browser is None:
        pytest.skip("no chromedriver or no chromium in PATH (Debian's packages chromium and chromium-driver)")
    return driver, browser


class Browser:
    """One window of a browser, without a screen."""

    def __init__(self, folder: Path, port: int, wait_for: Callable[[Callable[[], bool]], None]) -> None:
        driver, browser = programs()
        self.root = f"http://{LOOPBACK}:{port}"
        self.process = subprocess.Popen(
            [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        wait_for(self._ready)
        options = {
            "binary": browser,
            "args": [
                *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
                *("--window-size=1680,1050", "--force-device-scale-factor=1", f"--user-data-dir={folder}"),
            ],
        }
        wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}}
        self.session = f"/session/{self._call('POST', '/session', wanted)['sessionId']}"

    def open(self, address: str) -> None:
        """Go to an address."""
        self._call("POST", f"{self.session}/url", {"url": address})

    def run(self, script: str) -> Any:
        """What a script returns in the page."""
        return self._call("POST", f"{self.session}/execute/sync", {"script": script, "args": []})

    def find(self, selector: str) -> str:
        """The id of the element that a CSS selector finds first."""
        found = self._call("POST", f"{self.session}/element", {"using": "css selector", "value": selector})
        return str(next(iter(found.values())))

    def send_keys(self, element: str, text: str) -> None:
        """Press keys in an element, one after another; the protocol's private characters are special keys."""
        self._call("POST", f"{self.session}/element/{element}/value", {"text": text})

    def resize(self, width: int, height: int) -> None:
        """Make the page's area so large; a window may not be so narrow."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": size}
        self._call("POST", f"{self.session}/goog/cdp/execute", command)

    def console(self) -> list[dict[str, Any]]:
        """What the console said since the last call."""
        entries: list[dict[str, Any]] = self._call("POST", f"{self.session}/se/log", {"type": "browser"})
        return entries

    def picture(self, path: Path) -> None:
        """Keep what the window shows."""
        path.write_bytes(base64.b64decode(self._call("GET", f"{self.session}/screenshot")))

    def close(self) -> None:
        """End the browser and its driver."""
        with suppress(OSError):
            self._call("DELETE", self.session)
        self.process.terminate()
        self.process.wait(10)

    def _ready(self) -> bool:
        with suppress(OSError):
            return bool(self._call("GET", "/status")["ready"])
        return False

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.root + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["value"]
