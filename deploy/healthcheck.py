"""Exit 0 when the web process of this container is ready. Asks by a host name that ALLOWED_HOSTS lets in."""

import http.client
import os
import sys

host = os.environ.get("ALLOWED_HOSTS", "").split(",")[0].strip().lstrip(".*") or "localhost"
connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=4)
connection.request("GET", "/health/ready/", headers={"Host": host})
sys.exit(connection.getresponse().status != http.client.OK)
