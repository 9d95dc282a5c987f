"""Where tuning keeps its trials: in Aisle's own database, in a schema of Optuna's own."""

from django.db import connection
from sqlalchemy import URL

SCHEMA = "optuna"
# The child reads it from its environment: a URL may hold a password, and a job is a file.
VARIABLE = "AISLE_TUNING_STORAGE"
PASSED_ON = ("host", "sslmode", "sslrootcert", "sslcert", "sslkey")


def storage_url() -> str:
    """Return the SQLAlchemy URL of the study's storage, having made its schema where it is missing."""
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    known = connection.settings_dict
    host = known["HOST"]
    query = {"options": f"-csearch_path={SCHEMA}"}
    query |= {name: str(known["OPTIONS"][name]) for name in PASSED_ON if name in known.get("OPTIONS", {})}
    if host.startswith("/"):  # the folder of a Unix socket
        query["host"], host = host, None
    url = URL.create(
        "postgresql+psycopg",
        username=known["USER"] or None,
        password=known["PASSWORD"] or None,
        host=host or None,
        port=int(known["PORT"]) if known["PORT"] else None,
        database=known["NAME"],
        query=query,
    )
    return url.render_as_string(hide_password=False)
