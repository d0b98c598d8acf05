"""A headless Chromium, driven over a pipe in the Chrome DevTools protocol: that needs no driver, no port and no package."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
INSIDE = ("data", "blob", "about", "file")  # schemes that ask no host
ANSWER_SECONDS = 120.0


def installed() -> str | None:
    """The browser's path, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab.

    `hosts` are those that it asked for anything, `errors` what its console and its scripts
    complained of.
    """

    def __init__(
        self, program: str, profile: Path, *, width: int = 1280, height: int = 1000
    ) -> None:
        ours, theirs = os.pipe(), os.pipe()  # (read, write) of what it is told, and of what it says
        # The protocol wants descriptors 3 and 4; bash moves them there (dash knows only descriptors
        # of one digit).
        command = [
            "bash",
            "-c",
            f'exec "$0" "$@" 3<&{ours[0]} 4>&{theirs[1]}',
            program,
            *FLAGS,
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        with (profile.parent / f"{profile.name}.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                pass_fds=(ours[0], theirs[1]),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        os.close(ours[0])
        os.close(theirs[1])
        self._to, self._from = ours[1], theirs[0]
        self._number, self._buffer = 0, b""
        self._session: str | None = None
        self.hosts: set[str] = set()
        self.errors: list[str] = []
        self.dialogs: list[str] = []
        try:
            self._attach(width, height)
        except BaseException:
            self.close()
            raise

    def _attach(self, width: int, height: int) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def resize(self, width: int, height: int = 1000) -> None:
        """Show the page this many CSS pixels wide."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def open(self, address: str) -> None:
        """Go there, and wait until the document has come; what its scripts draw may come later."""
        self.call("Page.navigate", url="about:blank")
        fault = self.call("Page.navigate", url=address).get("errorText")
        if fault:
            raise AssertionError(f"{address}: {fault}")
        self.wait("location.href !== 'about:blank' && document.readyState === 'complete'")

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression: str, *, seconds: float = 90) -> None:
        """Until the expression is true."""
        deadline = time.monotonic() + seconds
        while not self.ask(expression):
            if time.monotonic() > deadline:
                text = self.ask("document.body.innerText.slice(0, 1500)")
                raise AssertionError(
                    f"never came true: {expression}\nerrors: {self.errors}\n{text}"
                )
            time.sleep(0.3)

    def text(self) -> str:
        """What can be read on the page."""
        return str(self.ask("document.body.innerText"))

    def close(self) -> None:
        """End the browser and all its processes."""
        os.close(self._to)
        os.close(self._from)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a command of the protocol."""
        number = self._say(method, parameters)
        while True:
            said = self._next()
            if said.get("id") == number:
                if "error" in said:
                    raise AssertionError(f"{method}: {said['error']}")
                found: dict[str, Any] = said["result"]
                return found
            self._notice(said)

    def _say(self, method: str, parameters: dict[str, Any]) -> int:
        self._number += 1
        session = {} if self._session is None else {"sessionId": self._session}
        rest = (
            json.dumps(
                {"id": self._number, "method": method, "params": parameters, **session}
            ).encode()
            + b"\0"
        )
        while rest:
            rest = rest[os.write(self._to, rest) :]
        return self._number

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._from], [], [], ANSWER_SECONDS)[0]:
                raise AssertionError(f"the browser has not answered for {ANSWER_SECONDS:.0f} s")
            chunk = os.read(self._from, 1 << 20)
            if not chunk:
                raise AssertionError("the browser has ended")
            self._buffer += chunk
        first, self._buffer = self._buffer.split(b"\0", 1)
        found: dict[str, Any] = json.loads(first)
        return found

    def _notice(self, said: dict[str, Any]) -> None:
        method, told = said.get("method"), said.get("params", {})
        if method == "Network.requestWillBeSent":
            address = urlsplit(told["request"]["url"])
            if address.scheme not in INSIDE:
                self.hosts.add(address.netloc)
        elif method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(f"{told['entry']['text']} {told['entry'].get('url', '')}".strip())
        elif method == "Page.javascriptDialogOpening":
            self.dialogs.append(told["message"])
            self._say(
                "Page.handleJavaScriptDialog", {"accept": False}
            )  # its answer is nobody's to wait for
