"""The environment of a test run, set before Django reads it: a home of its own with real embedded servers."""

import atexit
import os
import shutil
import tempfile

FROM_OUTSIDE = ("AISLE_", "AWS_", "DATABASE_URL", "REDIS_URL", "EMAIL_URL", "SECRET_KEY", "DEBUG", "ALLOWED_HOSTS")

for name in list(os.environ):
    if name.startswith(FROM_OUTSIDE) and name != "AISLE_DATA":
        del os.environ[name]
os.environ["AISLE_HOME"] = tempfile.mkdtemp(prefix="aisle-test-")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve the processes that tests start
os.environ["UPLOAD_RATE"] = os.environ["API_RATE"] = "100000/minute"
atexit.register(shutil.rmtree, os.environ["AISLE_HOME"], ignore_errors=True)

from portal.operations import embedded_services  # noqa: E402

embedded_services.ensure_running()  # its own atexit runs before ours
