"""A page of Chromium that no network tools watch.

Playwright has Chromium's network tools follow each of its pages, and these keep the bodies of all responses in the
page's own process: memory that no visitor's browser needs. This page is in a context of its own, which Playwright
leaves alone, and is driven through the developer tools' protocol.
"""

from __future__ import annotations

import json
import time
from typing import Any

__all__ = ["QuietPage"]

_POLL = 0.004
_CODES = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


class QuietPage:
    """A page of a browser that Playwright started. ``errors`` holds what the page wrote to the console.

    Args:
        browser: The browser.
        size: Width and height in CSS pixels.
        script: Runs in the page before its own.
        timeout: Seconds that an answer may take.
    """

    def __init__(self, browser: Any, size: tuple[int, int], script: str = "", timeout: float = 180.0) -> None:
        self.errors: list[str] = []
        self._timeout, self._count = timeout, 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._session = browser.new_browser_cdp_session()
        self._session.on("Target.receivedMessageFromTarget", self._receive)
        context = self._session.send("Target.createBrowserContext")["browserContextId"]
        made = {"url": "about:blank", "browserContextId": context}
        self._target = self._session.send("Target.createTarget", made)["targetId"]
        attached = {"targetId": self._target, "flatten": False}
        self._attached = self._session.send("Target.attachToTarget", attached)["sessionId"]
        for domain in ("Runtime", "Log", "Page", "HeapProfiler", "Performance"):
            self.send(f"{domain}.enable")
        self.send("Page.addScriptToEvaluateOnNewDocument", source=script)
        self.resize(size)

    def send(self, method: str, **values: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result.

        Raises:
            RuntimeError: If it fails or does not answer.
        """
        self._count += 1
        number, end = self._count, time.monotonic() + self._timeout
        message = json.dumps({"id": number, "method": method, "params": values})
        self._session.send("Target.sendMessageToTarget", {"sessionId": self._attached, "message": message})
        while number not in self._answers:
            if time.monotonic() > end:
                raise RuntimeError(f"{method}: no answer within {self._timeout:.0f} s")
            # What has arrived meanwhile is told with the answer to anything.
            self._session.send("Browser.getVersion")
            if number not in self._answers:
                time.sleep(_POLL)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _receive(self, event: dict[str, Any]) -> None:
        message = json.loads(event["message"])
        if "id" in message:
            self._answers[message["id"]] = message
            return
        values = message.get("params", {})
        if message["method"] == "Runtime.exceptionThrown":
            self.errors.append(_text(values["exceptionDetails"]))
        elif message["method"] == "Runtime.consoleAPICalled" and values["type"] == "error":
            self.errors.append(" ".join(str(each.get("value", "")) for each in values["args"]))
        elif message["method"] == "Log.entryAdded" and values["entry"]["level"] == "error":
            self.errors.append(values["entry"]["text"])

    def goto(self, address: str, ready: str) -> None:
        """Open an address; return when the expression ``ready`` is there and what it promises has come."""
        self.send("Page.navigate", url=address)
        end = time.monotonic() + self._timeout
        while not self.evaluate(f"document.URL !== 'about:blank' && !!globalThis.{ready.split('.')[0]}"):
            if time.monotonic() > end:
                raise RuntimeError(f"{address}: no {ready} within {self._timeout:.0f} s")
            time.sleep(0.05)
        self.evaluate(ready)

    def evaluate(self, expression: str, *values: Any) -> Any:
        """Return the value of an expression, or of a function called with ``values``, waiting for what it promises.

        Raises:
            RuntimeError: If it throws.
        """
        if values:
            expression = f"({expression})({', '.join(map(json.dumps, values))})"
        found = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(_text(found["exceptionDetails"]))
        return found["result"].get("value")

    def press(self, key: str, is_down: bool) -> None:
        """Press or release a key: a letter or an arrow."""
        names = {"key": key, "code": key if key in _CODES else f"Key{key.upper()}"}
        code = _CODES.get(key) or ord(key.upper())
        kind = "rawKeyDown" if is_down else "keyUp"
        self.send("Input.dispatchKeyEvent", type=kind, windowsVirtualKeyCode=code, **names)

    def mouse(self, kind: str, x: float, y: float, **values: Any) -> None:
        """Send a ``mousePressed``, ``mouseMoved``, ``mouseReleased`` or ``mouseWheel`` at a place."""
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **values)

    def resize(self, size: tuple[int, int]) -> None:
        """Give the page other sides in CSS pixels."""
        values = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **values)

    def close(self) -> None:
        """Close the page."""
        self._session.send("Target.closeTarget", {"targetId": self._target})
        self._session.detach()


def _text(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description") or details["text"])
