"""Write a fit's progress, log and failure to WORKDIR/progress.jsonl for the process that started it."""

import json
import time
from pathlib import Path
from typing import Any, SupportsFloat

from training.fit import process_group
from training.fit.stage_codes import RunStage

MIN_SECONDS_BETWEEN_STEPS = 1.0


class FitError(Exception):
    """The model cannot be fitted; the message is a sentence for a person. `permanent`: a second try won't help."""

    def __init__(self, message: str, *, permanent: bool = True) -> None:
        super().__init__(message)
        self.permanent = permanent


class Progress:
    """A writer to WORKDIR/progress.jsonl: steps at most about once a second, and from the first process alone."""

    def __init__(self, workdir: Path) -> None:
        self.path = workdir / "progress.jsonl"
        self.stage = ""
        self.total = 0
        self._started_at = self._written_at = 0.0
        self._first_step = 0

    def start_stage(self, stage: RunStage, total: int, *, step: int = 0) -> None:
        """Begin a stage of `total` steps, of which `step` were done before this process began."""
        self.stage, self.total, self._first_step = stage, total, step
        self._started_at, self._written_at = time.monotonic(), 0.0
        self.report_step(step)

    def report_step(self, step: int, *, items: float = 1.0, loss: SupportsFloat | None = None) -> None:
        """Report how many steps are done; `items` is how many items a step holds."""
        now = time.monotonic()
        if now - self._written_at < MIN_SECONDS_BETWEEN_STEPS and step < self.total:
            return
        self._written_at = now
        self._write(self._position(step, loss) | self._pace(step, items))

    def report_epoch(self, step: int, *, items: float, loss: SupportsFloat | None, validation_loss: float) -> None:
        """Report the losses at the end of an epoch."""
        line = self._position(step, loss)
        line["validation_loss"] = round(validation_loss, 5)
        self._write(line | self._pace(step, items))

    def log(self, text: str) -> None:
        """Add a line to the run's log."""
        self._write({"log": text})

    def report_failure(self, text: str, *, permanent: bool) -> None:
        """Report why the fit ends without a model. Any process may: the one that fails ends the others."""
        self._append({"error": text, "permanent": permanent})

    def _position(self, step: int, loss: SupportsFloat | None) -> dict[str, Any]:
        line: dict[str, Any] = {"stage": self.stage, "step": step, "total": self.total}
        if loss is not None:
            line["loss"] = round(float(loss), 5)
        return line

    def _pace(self, step: int, items: float) -> dict[str, float]:
        # Steps of an earlier process don't count: they took none of this process's time.
        done, seconds = step - self._first_step, time.monotonic() - self._started_at
        if done <= 0 or seconds <= 0:
            return {}
        rate = done / seconds
        return {"rate": round(rate * items, 2), "eta": round(max(self.total - step, 0) / rate, 1)}

    def _write(self, line: dict[str, Any]) -> None:
        if process_group.is_first_process():
            self._append(line)

    def _append(self, line: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
