"""The results of finished stages, kept in WORKDIR so that a killed fit goes on where it was."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from training.fit import process_group

DONE = "done.json"


class Stage:
    """A folder for one stage: `done` holds what it found when it was finished, in this or an earlier process."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        """Empties the folder when it holds the work of another job. Every process calls it at the same time."""
        self.folder = folder
        self.fingerprint = fingerprint
        if process_group.is_first_local_process():
            folder.mkdir(parents=True, exist_ok=True)
            mark = folder / "job"
            if not mark.is_file() or mark.read_text() != fingerprint:
                shutil.rmtree(folder)
                folder.mkdir()
                mark.write_text(fingerprint)
        process_group.wait_for_all()
        found = self._read()
        # On several machines a stage is done when it is done on all.
        self.done = found if all(done is not None for done in process_group.gather_all(found)) else None

    def finish(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Mark the stage as done, once every process has come this far; return the first process's facts."""
        process_group.wait_for_all()
        facts = process_group.broadcast(facts)
        if process_group.is_first_local_process():
            write_json(self.folder / DONE, facts)
        process_group.wait_for_all()
        self.done = facts
        return facts

    def _read(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self.folder / DONE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found


def write_json(path: Path, content: object) -> None:
    """Write the file whole or not at all."""
    replace_bytes(path, (json.dumps(content, indent=1) + "\n").encode())


def replace_bytes(path: Path, content: bytes) -> None:
    """Write the file whole or not at all."""
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
