"""Give a test run a home of its own with real embedded servers, before Django reads the environment."""

import atexit
import os
import shutil
import tempfile

from benchmarks.harness.processes import isolate_environment

isolate_environment(tempfile.mkdtemp(prefix="aisle-test-"))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve the processes that tests start
atexit.register(shutil.rmtree, os.environ["AISLE_HOME"], ignore_errors=True)

from portal.operations import embedded_services  # noqa: E402

embedded_services.ensure_running()  # its own atexit runs before ours
