"""One process with threads: a request that waits for its result costs a sleeping thread, not a process."""

workers = 1
worker_class = "gthread"
threads = 384  # at most 320 wait for results: see classifier/serving/notifications.py
timeout = 60
keepalive = 75  # longer than a load balancer keeps an idle connection, lest it send into one that is closed
graceful_timeout = 10
loglevel = "warning"
control_socket_disable = True


def post_worker_init(_worker: object) -> None:
    """Read the addresses and what their views import, and start the decoders: else the first visitor waits for it."""
    from django.urls import get_resolver

    from common.photo_decoding import upload_decoders

    get_resolver().reverse_dict  # noqa: B018 - looking it up reads all of them
    upload_decoders().start()
