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

LOOK_SECONDS = 2.0
LEAST_BYTES = 50_000_000


def main(*, lends: bool = False) -> None:
    """Fit, or, when it `lends`, only take part in the job's tuning. Exits with 1 when no model comes of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workdir", type=Path, help="the folder with job.json; results and checkpoints go there too")
    workdir: Path = parser.parse_args().workdir.resolve()
    _end_with_the_runner()
    import torch

    from training.fit import process_group
    from training.fit.job import Job
    from training.fit.progress import FitError, Progress
    from training.fit.run import ModelFit, fit_model
    from training.fit.tuning import tune_recipe

    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(max(len(os.sched_getaffinity(0)) // here, 1))
    progress = Progress(workdir)
    try:
        process_group.join_group()
        job = Job.read(workdir)
        if lends:
            tune_recipe(ModelFit(job, progress))
        else:
            fit_model(job, progress)
    except FitError as error:
        progress.fail(str(error), permanent=error.permanent)
    except Exception as error:  # noqa: BLE001 - whatever it is, the run is told
        traceback.print_exc()
        sentence, permanent = _explain(error, workdir)
        progress.fail(sentence, permanent=permanent)
    else:
        process_group.leave_group()
        return
    # The other processes may wait in a step that never comes: this one goes at once and torchrun ends them.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _explain(error: Exception, workdir: Path) -> tuple[str, bool]:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "No space left" in str(error) or shutil.disk_usage(workdir).free < LEAST_BYTES:
        return f"No space is left on the disk of {workdir}: make room and start again.", True
    return f"Training stopped: {type(error).__name__}: {error}", False


def _end_with_the_runner() -> None:
    """End when the process that started the fit is gone: another one may be about to go on with it."""
    runner = os.environ.get("AISLE_RUNNER_PID", "")
    if not runner.isdigit():
        return

    def look() -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            try:
                os.kill(int(runner), 0)
            except ProcessLookupError:
                os.kill(os.getpid(), signal.SIGKILL)
            except PermissionError:
                pass  # it lives, under another user

    threading.Thread(target=look, daemon=True).start()


if __name__ == "__main__":
    main()
