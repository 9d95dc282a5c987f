import threading
import time
from concurrent.futures import ThreadPoolExecutor

import redis
from django.conf import settings
from django.db import connection

from classifier.models import Prediction
from classifier.serving import notifications
from tests.support.accounts import make_user
from tests.support.database import held_connections
from tests.support.predictions import queue_predictions

WAITING = 100


def finish(rows: list[Prediction]) -> None:
    Prediction.objects.filter(pk__in=[row.pk for row in rows]).update(state="failed", error="-")


def wait(row: Prediction) -> bool:
    try:
        return notifications.wait_until_finished(row.pk, seconds=60)
    finally:
        connection.close()


def test_a_hundred_requests_wait_with_one_listener_and_no_database_connection(committed_db: None) -> None:
    rows = queue_predictions(make_user("waiting@shop.example"), WAITING)
    before = held_connections()
    with ThreadPoolExecutor(WAITING) as threads:
        waiting = [threads.submit(wait, row) for row in rows]
        while len(notifications._listener()._waiters) < WAITING or not notifications._listener().is_listening:
            time.sleep(0.01)
        while held_connections() > before:
            time.sleep(0.01)
        assert redis.Redis.from_url(settings.REDIS_URL).pubsub_numsub(notifications.CHANNEL) == [
            (notifications.CHANNEL.encode(), 1)
        ]
        assert not any(each.done() for each in waiting)
        finish(rows)
        notifications.publish_finished([row.pk for row in rows])  # one message
        assert all(each.result(timeout=30) for each in waiting)
    assert notifications._listener()._waiters == {}


def test_a_request_without_a_notification_reads_its_row_in_the_end(committed_db: None) -> None:
    (row,) = queue_predictions(make_user("waiting@shop.example"))
    threading.Timer(0.2, lambda: (finish([row]), connection.close())).start()
    assert notifications.wait_until_finished(row.pk, seconds=1)


def test_waiting_requests_read_their_rows_when_valkey_comes_back(committed_db: None) -> None:
    """A result of the time without notifications is found at once, not at the deadline."""
    (row,) = queue_predictions(make_user("waiting@shop.example"))
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(wait, row)
        while row.pk not in notifications._listener()._waiters or not notifications._listener().is_listening:
            time.sleep(0.01)
        finish([row])
        redis.Redis.from_url(settings.REDIS_URL).client_kill_filter(_type="pubsub")
        assert waiting.result(timeout=30)
