"""One process with threads: a request that waits for its result costs a thread, not a process."""

workers = 1
worker_class = "gthread"
threads = 32
timeout = 60
graceful_timeout = 10
loglevel = "warning"
control_socket_disable = True
