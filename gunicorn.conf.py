"""Configure gunicorn: one process with threads, because a request that waits for its result needs only a thread."""

workers = 1
worker_class = "gthread"
threads = 384  # at most 320 wait for results: see classifier/serving/notifications.py
timeout = 60
keepalive = 75  # longer than a load balancer keeps an idle connection, so that it never uses one that is closed
graceful_timeout = 10
loglevel = "warning"
control_socket_disable = True


def post_worker_init(_worker: object) -> None:
    """Load the URL patterns, views and statistics, and start the decoders: the first visitor doesn't wait for them."""
    # Before there are threads: two that import SciPy for the first time at once may see half of it.
    import scipy.stats  # noqa: F401
    from django.urls import get_resolver

    from common.photo_decoding import upload_decoders

    get_resolver().reverse_dict  # noqa: B018 - reading it loads all patterns
    upload_decoders().start()
