"""Exit 0 when the web process of this container is ready, or, asked for "live", alive.

Asks by a host name that ALLOWED_HOSTS lets in.
"""

import http.client
import os
import sys

host = os.environ.get("ALLOWED_HOSTS", "").split(",")[0].strip().lstrip(".*") or "localhost"
question = sys.argv[1] if len(sys.argv) > 1 else "ready"
connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=4)
connection.request("GET", f"/health/{question}/", headers={"Host": host})
sys.exit(connection.getresponse().status != http.client.OK)
