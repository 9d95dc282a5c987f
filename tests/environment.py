"""Give a test run a home of its own with real embedded servers, before Django reads the environment."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from benchmarks.harness.processes import isolate_environment
from tests.support.homes import copy_home, made_once, prepare_home, share_networks

# The processes of pytest-xdist share one folder. It is none of pytest's own, which another run of the same user closes
# to the user whom PostgreSQL runs as.
if "TEST_RUN_FOLDER" not in os.environ:
    os.environ["TEST_RUN_FOLDER"] = tempfile.mkdtemp(prefix="aisle-test-")
    atexit.register(shutil.rmtree, os.environ["TEST_RUN_FOLDER"], ignore_errors=True)
isolate_environment(tempfile.mkdtemp(prefix="home-", dir=os.environ["TEST_RUN_FOLDER"]))
copy_home(made_once("prepared", prepare_home), Path(os.environ["AISLE_HOME"]))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve the processes that tests start
atexit.register(shutil.rmtree, os.environ["AISLE_HOME"], ignore_errors=True)

from portal.operations import embedded_services  # noqa: E402
from tests.support.postgres import skip_syncing  # noqa: E402

embedded_services.ensure_running()  # its own atexit runs before ours
skip_syncing(os.environ["DATABASE_URL"])
share_networks(Path(os.environ["AISLE_HOME"]))
