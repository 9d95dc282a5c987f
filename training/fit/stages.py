"""Keep the results of finished stages in WORKDIR, so that a killed fit continues where it stopped."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from training.fit import process_group

DONE = "done.json"


class Stage:
    """The folder of one stage; `done` holds its results once it is finished, in this or an earlier process."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        """Empty the folder when it holds another job's work. Every process calls it at the same time."""
        self.folder = folder
        self.fingerprint = fingerprint
        if process_group.is_first_local_process():
            folder.mkdir(parents=True, exist_ok=True)
            owner = folder / "job"
            if not owner.is_file() or owner.read_text() != fingerprint:
                shutil.rmtree(folder)
                folder.mkdir()
                owner.write_text(fingerprint)
        process_group.wait_for_all()
        results = self._read_results()
        # Each machine has its own folder: a stage is done when it is done on all of them.
        is_done_everywhere = all(found is not None for found in process_group.gather_all(results))
        self.done = results if is_done_everywhere else None

    def finish(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mark the stage as done, once every process has come this far; return the first process's results."""
        # The mark comes last: a stage without it is computed again, even if all its files are there.
        process_group.wait_for_all()
        results = process_group.broadcast(results)
        if process_group.is_first_local_process():
            write_json(self.folder / DONE, results)
        process_group.wait_for_all()
        self.done = results
        return results

    def _read_results(self) -> dict[str, Any] | None:
        try:
            results: dict[str, Any] = json.loads((self.folder / DONE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return results


def write_json(path: Path, content: object) -> None:
    """Write the content as JSON, whole or not at all."""
    replace_bytes(path, (json.dumps(content, indent=1) + "\n").encode())


def replace_bytes(path: Path, content: bytes) -> None:
    """Write the file whole or not at all."""
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        # Renaming before the content is on the disk could leave an empty file after a power cut.
        os.fsync(file.fileno())
    unfinished.replace(path)
