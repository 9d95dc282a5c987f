"""Exit 0 when this container's worker touched its file in the last minute: see portal/operations/worker_watchdog.py."""

import sys
import tempfile
import time
from pathlib import Path

LONGEST_SILENCE = 60

touched = max((file.stat().st_mtime for file in Path(tempfile.gettempdir()).glob("aisle-worker-*")), default=0.0)
sys.exit(time.time() - touched > LONGEST_SILENCE)
