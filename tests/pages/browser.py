"""A headless Chromium that is spoken to over a pipe: pages are opened at any size, looked at and
used as people do.
"""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
WAIT = 60.0  # seconds, on busy machines


class Browser:
    """One process, one page at a time. problems: what the page wrote to its console as an error, or
    threw, or asked of the network.
    """

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._buffer, self._number = b"", 0
        self._session: str | None = None
        self.problems: list[str] = []
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def open(
        self, page: Path, width: int, height: int, *, dark: bool = False, phone: bool = False
    ) -> None:
        """Show a page and wait until all of its figures are drawn."""
        ready = "document.documentElement?.dataset.ready == 'yes'"
        address = page.resolve().as_uri()
        self.visit(address, width, height, dark=dark, phone=phone, ready=ready)

    def visit(
        self,
        address: str,
        width: int,
        height: int,
        *,
        ready: str,
        dark: bool = False,
        phone: bool = False,
    ) -> None:
        """Show what is at an address and wait until an expression is true."""
        self.problems.clear()
        self._call(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone},
        )
        self.theme(dark)
        self.run("delete document.documentElement.dataset.ready")  # of an earlier page
        self._call("Page.navigate", {"url": address})
        self.wait(f"location.href.startsWith({json.dumps(address)}) && {ready}")

    def theme(self, dark: bool) -> None:
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._call("Emulation.setEmulatedMedia", {"features": features})

    def wait(self, condition: str) -> None:
        """Until an expression is true."""
        end = time.monotonic() + WAIT
        while not self.run(condition):
            assert time.monotonic() < end, f"never true: {condition}; problems: {self.problems}"
            time.sleep(0.05)

    def run(self, script: str) -> Any:
        """The value of an expression, promises awaited."""
        given = {"expression": script, "returnByValue": True, "awaitPromise": True}
        found = self._call("Runtime.evaluate", given)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str, text: str = "") -> None:
        """Press and release a key where the focus is."""
        code = {"Enter": 13, "Tab": 9}.get(key, 0)
        common = {"key": key, "windowsVirtualKeyCode": code}
        down = {"type": "keyDown", **common} | ({"text": text} if text else {})
        self._call("Input.dispatchKeyEvent", down)
        self._call("Input.dispatchKeyEvent", {"type": "keyUp", **common})

    def screenshot(self, path: Path, *, whole: bool = False) -> Path:
        """What is seen, or the whole page."""
        found = self._call(
            "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole}
        )
        path.write_bytes(base64.b64decode(found["data"]))
        return path

    def print(self, path: Path) -> Path:
        """The page as PDF."""
        found = self._call(
            "Page.printToPDF", {"printBackground": True, "paperWidth": 8.27, "paperHeight": 11.7}
        )
        path.write_bytes(base64.b64decode(found["data"]))
        return path

    def _call(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params or {}}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                found: dict[str, Any] = answer["result"]
                return found
            self._note(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._read, 2**20)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled" and params["type"] in (
            "error",
            "warning",
            "assert",
        ):
            self.problems.append(json.dumps(params["args"])[:500])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(json.dumps(params["entry"])[:500])
        elif method == "Page.javascriptDialogOpening":
            self.problems.append(f"a dialog: {params.get('message')}")
        elif method == "Network.requestWillBeSent" and not params["request"]["url"].startswith(
            ("file:", "data:", "http://127.0.0.1", "http://localhost")
        ):
            self.problems.append(f"asked for {params['request']['url'][:200]}")


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start Chromium with an empty profile; end it afterwards."""
    assert CHROMIUM is not None
    to_child, write = os.pipe()
    read, from_child = os.pipe()

    def pipes() -> None:  # Chromium reads commands from 3 and answers on 4
        one, two = os.dup(to_child), os.dup(from_child)
        os.dup2(one, 3)
        os.dup2(two, 4)

    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--remote-debugging-pipe",
        f"--user-data-dir={profile}",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--no-first-run",
        "--disable-background-networking",
    ]
    process = subprocess.Popen(
        [CHROMIUM, *options, "about:blank"],
        close_fds=False,
        preexec_fn=pipes,
        pass_fds=(),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    os.close(to_child)
    os.close(from_child)
    try:
        yield Browser(read, write)
    finally:
        process.terminate()
        process.wait(20)
        os.close(read)
        os.close(write)
