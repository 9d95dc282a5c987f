"""python -m training.fit WORKDIR: fit the model that WORKDIR/job.json describes."""

import argparse
import errno
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

PARENT_CHECK_SECONDS = 2.0
MIN_FREE_BYTES = 50_000_000


def main() -> None:
    """Fit the job's model, or only take trials of its tuning. Exit with 1 when no model comes of it."""
    parser = argparse.ArgumentParser(prog="python -m training.fit", description=__doc__)
    parser.add_argument("workdir", type=Path, help="the folder with job.json; results and checkpoints go there too")
    parser.add_argument("--trials-only", action="store_true", help="take tuning trials and write no model")
    options = parser.parse_args()
    workdir: Path = options.workdir.resolve()
    _exit_with_parent()
    # Imported here, so that a process whose parent is gone already ends before torch is loaded.
    import torch

    from training.fit import process_group
    from training.fit.job import Job
    from training.fit.progress import FitError, Progress
    from training.fit.run import fit_model, lend_trials

    local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(max(len(os.sched_getaffinity(0)) // local_processes, 1))
    progress = Progress(workdir)
    try:
        process_group.join_group()
        job = Job.read(workdir)
        if options.trials_only:
            lend_trials(job, progress)
        else:
            fit_model(job, progress)
    except FitError as error:
        progress.report_failure(str(error), permanent=error.permanent)
    except Exception as error:  # noqa: BLE001 - any error must reach the run's row
        traceback.print_exc()
        message, permanent = explain_failure(error, workdir)
        progress.report_failure(message, permanent=permanent)
    else:
        process_group.leave_group()
        return
    # The other processes may wait in a collective operation that never completes, so a regular exit would hang in
    # torch's shutdown. This process ends at once, and torchrun ends the others.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def explain_failure(error: Exception, workdir: Path) -> tuple[str, bool]:
    """Return a sentence about an unexpected error, and whether a second try is pointless."""
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    # Libraries wrap the system's error in their own, so its text and the free space count too.
    if is_full or "No space left" in str(error) or shutil.disk_usage(workdir).free < MIN_FREE_BYTES:
        return f"No space is left on the disk of {workdir}: make room and start again.", True
    return f"Training stopped: {type(error).__name__}: {error}", False


def _exit_with_parent() -> None:
    """End this process when the process that started the fit is gone.

    Another worker may be about to continue the run, and two fits must not write to one folder.
    """
    parent = os.environ.get("AISLE_RUNNER_PID", "")
    if not parent.isdigit():
        return

    def watch_parent() -> None:
        while True:
            time.sleep(PARENT_CHECK_SECONDS)
            try:
                os.kill(int(parent), 0)
            except ProcessLookupError:
                os.kill(os.getpid(), signal.SIGKILL)
            except PermissionError:
                pass  # it lives, under another user

    threading.Thread(target=watch_parent, daemon=True).start()


if __name__ == "__main__":
    main()
