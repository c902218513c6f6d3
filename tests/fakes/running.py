"""A station as it runs on the floor: the real command in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.servers import free_port

READY_S = 120.0
DIFFERNET = str(Path(sys.executable).with_name("differnet"))


class RunningStation:
    """`differnet run --config` on a file that is written first.

    Args:
        folder: Of its configuration, state and events.
        tables: TOML text of its cameras and whatever else it needs.
        model: TOML text of `[model]`'s keys.
        environment: Added to the process's.
        command: Put before the command (`faketime`, `unshare`).
        web: TOML text of further keys of `[web]`.
        events: Whether it writes its events to a file, for `events`.
    """

    def __init__(
        self,
        folder: Path,
        tables: str,
        *,
        model: str = 'backend = "fake:5ms"',
        environment: Mapping[str, str] | None = None,
        command: tuple[str, ...] = (),
        web: str = "",
        events: bool = True,
    ) -> None:
        self.folder, self.port = folder, free_port()
        self.events_file = folder / "events.jsonl"
        self.config = folder / "line.toml"
        self.log = folder / "station.log"
        self._web, self._writes_events = web, events
        self._environment, self._command = dict(environment or {}), command
        self._process: subprocess.Popen[bytes] | None = None
        self.write(tables, model)

    def write(self, tables: str, model: str = 'backend = "fake:5ms"') -> None:
        """Writes the configuration."""
        jsonl = f'[jsonl]\npath = "{self.events_file}"\n'
        if "[jsonl]" in tables or not self._writes_events:
            jsonl = ""
        self.config.write_text(
            f'[station]\nname = "line"\nstate = "{self.folder / "state"}"\n'
            f"[model]\n{model}\n[web]\nport = {self.port}\n{self._web}\n{jsonl}{tables}"
        )

    def start(self) -> RunningStation:
        """Starts the process; `wait` waits for what it shall do."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, DIFFERNET, "run", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was not started"
        return self._process

    def get(self, path: str, timeout_s: float = 5.0) -> tuple[int, Any]:
        """Returns status and JSON (or text) of a page; (0, error) where nobody answers."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        return self._answer(request, timeout_s)

    def post(self, path: str, body: object, timeout_s: float = 60.0) -> tuple[int, Any]:
        """Posts JSON; returns as `get`."""
        headers = {"Content-Type": "application/json", "X-Requested-With": "differnet"}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), headers
        )
        return self._answer(request, timeout_s)

    def _answer(self, request: urllib.request.Request, timeout_s: float) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return answer.status, _parsed(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, _parsed(error.read())
        except (OSError, ValueError) as error:
            return 0, str(error)

    def camera(self, name: str) -> dict[str, Any]:
        """Returns a camera's view from the overview; empty where nobody answers."""
        status, overview = self.get("/api/overview")
        if status != 200:
            return {}
        found: dict[str, Any] = next((c for c in overview["cameras"] if c["name"] == name), {})
        return found

    def ready(self) -> bool:
        """Whether `/readyz` says so."""
        return self.get("/readyz")[0] == 200

    def degraded(self) -> bool | None:
        """Whether something is amiss; None where nobody answers."""
        status, health = self.get("/readyz")
        return health["degraded"] if status in (200, 503) else None

    def says(self, text: str) -> bool:
        """Whether one of `/readyz`'s reasons has a text in it; False where nobody answers."""
        status, health = self.get("/readyz")
        return status in (200, 503) and any(text in reason for reason in health["reasons"])

    def wait_judging(self) -> int:
        """Waits until a good part was judged; returns how many verdicts there were until then."""

        def judging() -> bool:
            written = self.events("inspection")
            return bool(written) and written[-1]["verdict"] == "GOOD"

        self.wait(judging, what="a good part's verdict")
        return len(self.events("inspection"))

    def wait(
        self, condition: Callable[[], object], within_s: float = READY_S, what: str = "it"
    ) -> float:
        """Waits for a condition while the process lives; returns the seconds it took."""
        begun = time.monotonic()
        while not condition():
            code = self.process.poll()
            assert code is None, f"the station ended with {code}:\n{self.tail()}"
            assert time.monotonic() - begun < within_s, f"{what}: not in time:\n{self.tail()}"
            time.sleep(0.05)
        took_s = time.monotonic() - begun
        assert took_s < within_s + 5.0, f"{what}: only after {took_s:.1f} s"
        return took_s

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Returns what the JSON lines sink wrote, rotated files first."""
        found = []
        for path in sorted(self.folder.glob("events.jsonl*"), reverse=True):
            for line in path.read_bytes().splitlines():
                try:
                    event = json.loads(line)
                except ValueError:
                    continue  # a kill tore the last line
                if kind is None or event["type"] == kind:
                    found.append(event)
        return found

    def tail(self, lines: int = 40) -> str:
        """Returns the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the station's process."""
        self.process.send_signal(number)

    def stop(self) -> float:
        """Stops it as systemd would; returns the seconds that it took."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20.0)
        return time.monotonic() - begun

    def kill(self) -> None:
        """Kills it and all that it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.wait(5.0)

    def __enter__(self) -> RunningStation:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
