"""Configuration of gunicorn, shipped with the application: `gunicorn -c python:sias.gunicorn_conf sias.wsgi`.

Threads, not one process per request: a request that waits for a failover must not stop the others. TLS ends in
HAProxy on the same host, so gunicorn listens on a Unix socket only.

Environment: SIAS_WEB_WORKERS (processes, 2), SIAS_WEB_THREADS (per process, 16), SIAS_WEB_RUNTIME (folder of the socket
and of the metrics, /run/sias-web), SIAS_WEB_BIND (instead of the socket, for a workstation).
"""

import gc
import os
import shutil
from pathlib import Path

_runtime = Path(os.environ.get("SIAS_WEB_RUNTIME", "/run/sias-web"))
_metrics = _runtime / "metrics"
# Before prometheus_client is imported anywhere: it reads this once.
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_metrics)

wsgi_app = "sias.wsgi:application"
bind = os.environ.get("SIAS_WEB_BIND", f"unix:{_runtime / 'web.sock'}")
umask = 0o007  # the socket's group (HAProxy) may connect, others may not
worker_class = "gthread"
workers = int(os.environ.get("SIAS_WEB_WORKERS", "2"))
threads = int(os.environ.get("SIAS_WEB_THREADS", "16"))
worker_tmp_dir = str(_runtime) if _runtime.is_dir() else None
timeout = 60  # s: longer than the slowest answer the database layer allows (see outage.py)
graceful_timeout = 30  # s: a document being sent may finish
keepalive = 75  # s: HAProxy reuses connections
max_requests = 20000  # a leak never lives long
max_requests_jitter = 2000  # and workers never restart together
accesslog = None  # HAProxy logs requests
errorlog = "-"
control_socket_disable = True  # hosts run it in a sandbox: no second socket to guard


def on_starting(server) -> None:  # noqa: ARG001, D103 - gunicorn's hook
    shutil.rmtree(_metrics, ignore_errors=True)
    _metrics.mkdir(parents=True, exist_ok=True)


def post_worker_init(worker) -> None:  # noqa: D103 - gunicorn's hook
    from sias.platform.warm import warm  # noqa: PLC0415 - after the application

    worker.log.info("%d pages prepared", warm())
    # What is loaded now stays: the collector need not walk over it again and again.
    gc.collect()
    gc.freeze()


def child_exit(server, worker) -> None:  # noqa: ARG001, D103 - gunicorn's hook
    from prometheus_client import multiprocess  # noqa: PLC0415 - after the folder is named

    multiprocess.mark_process_dead(worker.pid)
