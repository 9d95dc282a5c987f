"""What a fit tells the process that watches it: lines of JSON in WORKDIR/progress.jsonl."""

import json
import time
from pathlib import Path
from typing import Any, SupportsFloat

from training.fit import process_group

SECONDS = 1.0


class FitError(Exception):
    """The model cannot be fitted; the message is a sentence for a person. `permanent`: a second try won't help."""

    def __init__(self, message: str, *, permanent: bool = True) -> None:
        super().__init__(message)
        self.permanent = permanent


class Progress:
    """Appends to WORKDIR/progress.jsonl, at most about once a second; only the first process does."""

    def __init__(self, workdir: Path) -> None:
        self.path = workdir / "progress.jsonl"
        self.name = ""
        self.total = 0
        self._start = self._told = 0.0
        self._first_step = 0

    def stage(self, name: str, total: int, *, step: int = 0) -> None:
        """Begin a stage of `total` steps, of which `step` were done before this process began."""
        self.name, self.total, self._first_step = name, total, step
        self._start, self._told = time.monotonic(), 0.0
        self.step(step)

    def step(self, step: int, *, items: float = 1.0, loss: SupportsFloat | None = None) -> None:
        """Tell how many steps are done; `items` is how many items a step holds."""
        now = time.monotonic()
        if now - self._told < SECONDS and step < self.total:
            return
        self._told = now
        line: dict[str, Any] = {"stage": self.name, "step": step, "total": self.total}
        if loss is not None:
            line["loss"] = round(float(loss), 5)
        self._write(line | self._pace(step, items))

    def epoch(self, step: int, *, items: float, loss: SupportsFloat | None, validation_loss: float) -> None:
        """Tell what an epoch ended with."""
        line: dict[str, Any] = {"stage": self.name, "step": step, "total": self.total}
        if loss is not None:
            line["loss"] = round(float(loss), 5)
        self._write(line | {"validation_loss": round(validation_loss, 5)} | self._pace(step, items))

    def say(self, text: str) -> None:
        """Add a line for the run's log."""
        self._write({"log": text})

    def fail(self, text: str, *, permanent: bool) -> None:
        """Tell why the fit ends without a model. Any process may: the one that fails ends the others."""
        self._write({"error": text, "permanent": permanent}, anyone=True)

    def _pace(self, step: int, items: float) -> dict[str, float]:
        done, seconds = step - self._first_step, time.monotonic() - self._start
        if done <= 0 or seconds <= 0:
            return {}
        rate = done / seconds
        return {"rate": round(rate * items, 2), "eta": round(max(self.total - step, 0) / rate, 1)}

    def _write(self, line: dict[str, Any], *, anyone: bool = False) -> None:
        if process_group.is_first_process() or anyone:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
