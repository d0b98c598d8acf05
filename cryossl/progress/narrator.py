"""The messages of a run, sent to the terminal, the log file and the live status alike."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryossl.errors import CryosslError
from cryossl.progress.console import ProgressConsole
from cryossl.progress.eta import PlannedPhase, clock_text
from cryossl.progress.events import Progress
from cryossl.progress.status import StatusFile, TrainingLog
from cryossl.redaction import redacted

STATUS_FILE = "status.json"


class Narrator:
    """Shows key messages, begins phases, and is an `OnProgress` for the work inside them."""

    def __init__(self, console: ProgressConsole, log: TrainingLog, status: StatusFile) -> None:
        self._console, self._log, self._status = console, log, status
        self._title, self._began = "", 0.0
        self._results: list[str] = []

    def __call__(self, event: Progress) -> None:
        """Show the progress of the work."""
        self._status.update(event)
        self._console.show(event, self._status.whole())
        if event.resumed:
            self.note(f"{event.phase}: goes on behind {event.unit} {event.done} of {event.total}")

    @property
    def log_path(self) -> Path:
        """The file that all messages are written to."""
        return self._log.path

    def say(self, text: str) -> None:
        """Show a key message, which stays."""
        text = redacted(text, paths=True)
        self._console.line(text)
        self._keep(text)

    def detail(self, text: str) -> None:
        """Show a key message of the current phase; on a terminal it stands while the phase runs."""
        text = redacted(text, paths=True)
        self._console.detail(text)
        self._keep(text)

    def result(self, text: str) -> None:
        """Add to the line that the current phase leaves when it ends."""
        self._results.append(text)

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Take the expected seconds of the planned phases, by title."""
        self._status.expect(seconds)

    def begin(self, title: str) -> None:
        """End the current phase, which leaves a line with its result, and start the next one."""
        self.end()
        self._title, self._began = title, time.monotonic()
        self._console.begin(title)
        self._log.line(title)
        self._status.begin(title)

    def end(self) -> None:
        """End the current phase, if there is one."""
        if self._title:
            facts = [*self._results, clock_text(time.monotonic() - self._began)]
            self.say(f"✓ {self._title}: {', '.join(facts)}")
        self._title, self._results = "", []

    def note(self, text: str) -> None:
        """Write a detail to the log file alone."""
        self._log.line(redacted(text, paths=True))

    def _keep(self, text: str) -> None:
        self._log.line(text)
        self._status.message(text)


@contextmanager
def narrated(folder: Path, *, name: str, plan: Sequence[PlannedPhase]) -> Iterator[Narrator]:
    """A narrator with its log and live status in `folder`; the status records how the run ended."""
    folder.mkdir(parents=True, exist_ok=True)
    status = StatusFile(folder / STATUS_FILE, run=name, plan=plan)
    with (
        TrainingLog(folder / f"{name}_training.log") as log,
        ProgressConsole(sys.stdout) as console,
    ):
        narrator = Narrator(console, log, status)
        try:
            yield narrator
            narrator.end()
        except Exception as error:
            kind = "" if isinstance(error, CryosslError) else f"{type(error).__name__}: "
            log.line(redacted(f"❌ {kind}{error}", paths=True))
            status.close("failed")
            raise
        except BaseException:
            log.line("⏹ interrupted; the same command continues from the last checkpoint")
            status.close("stopped")
            raise
        status.close("finished")
