"""Give tuning a storage for its trials: a schema of its own in Aisle's database."""

from django.db import connection
from sqlalchemy import URL

SCHEMA = "optuna"
# The child reads the URL from its environment: it may hold a password, which must not be written to job.json.
VARIABLE = "AISLE_TUNING_STORAGE"
PASSED_ON = ("host", "sslmode", "sslrootcert", "sslcert", "sslkey")


def storage_url() -> str:
    """Return the SQLAlchemy URL of the study's storage; create its schema if it is missing."""
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    database = connection.settings_dict
    host = database["HOST"]
    query = {"options": f"-csearch_path={SCHEMA}"}
    query |= {name: str(database["OPTIONS"][name]) for name in PASSED_ON if name in database.get("OPTIONS", {})}
    if host.startswith("/"):  # the folder of a Unix socket
        query["host"], host = host, None
    url = URL.create(
        "postgresql+psycopg",
        username=database["USER"] or None,
        password=database["PASSWORD"] or None,
        host=host or None,
        port=int(database["PORT"]) if database["PORT"] else None,
        database=database["NAME"],
        query=query,
    )
    return url.render_as_string(hide_password=False)
