"""The messages of a run, sent to the terminal, the log file and the live status alike."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryossl.errors import CryosslError
from cryossl.progress.console import SECONDS_BETWEEN_LINES, ProgressConsole
from cryossl.progress.eta import PlannedPhase
from cryossl.progress.events import Progress
from cryossl.progress.status import StatusFile, TrainingLog
from cryossl.redaction import redacted

STATUS_FILE = "status.json"


class Narrator:
    """Shows key messages, begins phases, and is an `OnProgress` for the work inside them."""

    def __init__(self, console: ProgressConsole, log: TrainingLog, status: StatusFile) -> None:
        self._console, self._log, self._status = console, log, status

    def __call__(self, event: Progress) -> None:
        """Show the progress of the work."""
        self._console(event)
        self._status.update(event)
        if event.resumed:
            self.note(f"{event.phase}: goes on behind {event.unit} {event.done} of {event.total}")

    def say(self, text: str) -> None:
        """Show a key message."""
        text = redacted(text, paths=True)
        self._console.line(text)
        self._log.line(text)
        self._status.message(text)

    def begin(self, title: str) -> None:
        """Start a phase of the plan."""
        self._console.line(f"\n▸ {title}")
        self._log.line(title)
        self._status.begin(title)

    def note(self, text: str) -> None:
        """Write a detail to the log file alone."""
        self._log.line(redacted(text, paths=True))


@contextmanager
def narrated(
    folder: Path,
    *,
    name: str,
    plan: Sequence[PlannedPhase],
    seconds_between_lines: float = SECONDS_BETWEEN_LINES,
) -> Iterator[Narrator]:
    """A narrator with its log and live status in `folder`; the status records how the run ended."""
    folder.mkdir(parents=True, exist_ok=True)
    status = StatusFile(folder / STATUS_FILE, run=name, plan=plan)
    with (
        TrainingLog(folder / f"{name}_training.log") as log,
        ProgressConsole(sys.stdout, seconds_between_lines=seconds_between_lines) as console,
    ):
        narrator = Narrator(console, log, status)
        try:
            yield narrator
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
