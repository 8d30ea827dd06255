"""One request = one transaction; repeated once when the database moved under it; else 503 with the form kept.

The middleware stands outside sessions and sign-in, so that everything a request does to the database is in one
transaction whose COMMIT is known before a byte of the answer leaves. How views take part:

* `@read_only`     GET may be answered by a replica that has replayed this browser's last write
* `@no_database`   neither transaction nor retry (health, metrics)
* `@retry_safe`    a POST that may be repeated without an idempotency key (sign-in)
* `view.sias_unavailable(request, outcome, retry_after)`    its own 503 (the API, whose callers read no page)

A POST is repeated only with an idempotency key: the key's row commits with the write, so a repetition finds it.
"""

import logging
import re
import sys
import time
from collections.abc import Callable
from http import HTTPStatus

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections, transaction
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import Resolver404, resolve
from psycopg import sql

from sias.platform import metrics
from sias.platform.idempotency import key_of
from sias.platform.outage import Outcome, StorageUnavailableError, is_transient, worth_a_retry
from sias.platform.postgresql.base import REPLAYED
from sias.platform.routing import reading_from

logger = logging.getLogger("sias.failover")
POSITION_COOKIE = "sias_position"
POSITION_AGE = 300  # s: a replica that far behind is not used anyway (HAProxy drops it)
_POSITION = re.compile(r"^[0-9A-F]{1,8}/[0-9A-F]{1,8}$")
REPLAY_WAIT = 0.25  # s a read waits for its replica to replay the browser's last write
UNSAVED = {"csrfmiddlewaretoken", "idempotency_key", "password"}


class ReplicaBehindError(DatabaseError):
    """The replica has not replayed the last write of this browser."""


def read_only(view: Callable) -> Callable:
    """Mark a view whose GET only reads: a replica may answer it."""
    view.sias_read_only = True
    return view


def no_database(view: Callable) -> Callable:
    """Mark a view that must answer whatever the database does."""
    view.sias_no_database = True
    return view


def retry_safe(view: Callable) -> Callable:
    """Mark a view whose POST may be repeated without an idempotency key."""
    view.sias_retry_safe = True
    return view


def server_error(request: HttpRequest) -> HttpResponse:
    """Handler of uncaught exceptions: carry a transient one to the middleware, show a page for the others."""
    error = sys.exc_info()[1]
    if is_transient(error):
        response = HttpResponse(status=503)
        response.sias_failure = error
        return response
    return HttpResponse(render_to_string("500.html", {"request": request, **_page()}), status=500)


def _page() -> dict:
    return {"room": settings.SIAS_ROOM, "host": settings.SIAS_HOST, "version": settings.SIAS_VERSION}


class FailoverMiddleware:
    """See the module."""

    def __init__(self, get_response: Callable) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request, with at most one repetition."""
        try:
            view = resolve(request.path_info).func
        except Resolver404:
            view = None
        if getattr(view, "sias_no_database", False):
            return self.get_response(request)
        safe = request.method in {"GET", "HEAD", "OPTIONS"}
        only_reads = safe and getattr(view, "sias_read_only", False)
        aliases = ["replica", "default"] if only_reads else ["default", "default"]
        # A request already inside a transaction (tests) or marked so cannot be repeated.
        repeatable = safe or getattr(view, "sias_retry_safe", False)
        pristine, meta = dict(request.__dict__), dict(request.META)
        in_doubt = False
        failure: BaseException | None = None
        # One budget for both attempts: threads that wait are threads that do not serve reads.
        start = time.monotonic()
        connections["replica"].deadline = start + settings.SIAS_REPLICA_WAIT
        connections["default"].deadline = start + settings.SIAS_PRIMARY_WAIT
        for attempt, alias in enumerate(aliases):
            if attempt:
                metrics.RETRIES.labels(_name(request)).inc()
                _rewind(request, pristine, meta)
            response, failure, doubt = self._attempt(request, alias, only_reads=only_reads)
            if failure is None:
                return response
            in_doubt = in_doubt or doubt
            if isinstance(failure, ReplicaBehindError):
                continue
            _drop_connections()
            if not worth_a_retry(failure) or not (repeatable or key_of(request)):
                break
        outcome = Outcome.UNKNOWN if in_doubt and not safe else Outcome.NOTHING_SAVED
        metrics.OUTAGES.labels(_name(request), outcome.value).inc()
        return unavailable(request, view, failure, outcome, safe=safe)

    def _attempt(
        self, request: HttpRequest, alias: str, *, only_reads: bool
    ) -> tuple[HttpResponse | None, BaseException | None, bool]:
        """Return the response, or the failure and whether COMMIT had been sent."""
        connection = connections[alias]
        connection.commit_in_doubt = False
        try:
            connection.wanted, connection.replayed = _position(request) if alias == "replica" else None, False
            with reading_from(alias, only_reads=only_reads), transaction.atomic(using=alias):
                _wait_for_replay(connection)
                response = self.get_response(request)
                failure = getattr(response, "sias_failure", None)
                if failure is not None or response.status_code >= HTTPStatus.BAD_REQUEST:
                    transaction.set_rollback(True, using=alias)
        except (DatabaseError, InterfaceError) as error:
            if not (is_transient(error) or isinstance(error, ReplicaBehindError)):
                raise
            return None, error, connection.commit_in_doubt
        if failure is not None:
            return None, failure, False
        metrics.READS.labels(alias).inc()
        if alias == "default" and request.method not in {"GET", "HEAD", "OPTIONS"} and connection.position:
            response.set_signed_cookie(
                POSITION_COOKIE,
                connection.position,
                salt=POSITION_COOKIE,
                max_age=POSITION_AGE,
                httponly=True,
                secure=settings.SESSION_COOKIE_SECURE,
                samesite="Lax",
            )
        return response, None, False


def _position(request: HttpRequest) -> str | None:
    """Return how far the database was after this browser's last write."""
    position = request.get_signed_cookie(POSITION_COOKIE, default="", salt=POSITION_COOKIE, max_age=POSITION_AGE)
    return position if _POSITION.match(position) else None


def _wait_for_replay(connection) -> None:
    """Make sure that the replica has what this browser last wrote; its BEGIN has asked already."""
    if not connection.wanted or connection.replayed:
        return
    deadline = time.monotonic() + REPLAY_WAIT
    with connection.cursor() as cursor:
        while time.monotonic() <= deadline:
            time.sleep(0.02)  # between questions inside a deadline
            cursor.execute(sql.SQL("SELECT ") + REPLAYED.format(connection.wanted))
            if cursor.fetchone()[0]:
                return
    raise ReplicaBehindError(f"not yet at {connection.wanted}")


def _rewind(request: HttpRequest, pristine: dict, meta: dict) -> None:
    """Put the request back to how it arrived, but for its body, which can be read only once."""
    body = {
        name: request.__dict__[name]
        for name in ("_post", "_files", "_body", "_read_started", "_stream")
        if name in request.__dict__
    }
    request.__dict__.clear()
    request.__dict__.update(pristine)
    request.__dict__.update(body)
    request.META.clear()
    request.META.update(meta)
    for name in body.get("_files", {}):
        for upload in body["_files"].getlist(name):
            upload.seek(0)


def _drop_connections() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


def _name(request: HttpRequest) -> str:
    match = getattr(request, "resolver_match", None)
    return match.view_name if match else "-"


def _log(request: HttpRequest, outcome: Outcome, error: BaseException | None) -> None:
    """One line with the cause and without the query, which holds names; Django's own would tell neither."""
    logger.error(
        "503 %s %s, saved: %s, because %s: %s",
        request.method,
        request.path,
        outcome.value,
        type(error).__name__,
        " ".join(str(error).split()),
    )


def unavailable(
    request: HttpRequest, view: Callable | None, error: BaseException | None, outcome: Outcome, *, safe: bool
) -> HttpResponse:
    """503 that says what was saved and shows again what was typed. Touches no database."""
    if own := getattr(view, "sias_unavailable", None):
        _log(request, outcome, error)
        return own(request, outcome, settings.SIAS_RETRY_AFTER)
    form_class = getattr(view, "sias_form", None)
    form, others, files = None, [], False
    if not safe:
        posted = request.POST
        files = bool(request.FILES)
        if form_class is not None:
            form = form_class(posted)
        shown = set(form.fields) if form is not None else set()
        others = [(name, value) for name, values in posted.lists() if name not in UNSAVED | shown for value in values]
    context = {
        "outcome": outcome.value,
        "safe": safe,
        "form": form,
        "others": others,
        "had_file": files,
        "path": request.get_full_path(),
        "csrf": "" if safe else get_token(request),
        "idempotency_key": "" if safe else key_of(request) or "",
        "retry_after": settings.SIAS_RETRY_AFTER,
        "storage": isinstance(error, StorageUnavailableError),
        **_page(),
    }
    response = render(None, "503.html", context, status=503)
    response["Retry-After"] = str(settings.SIAS_RETRY_AFTER)
    response["X-SIAS-Outcome"] = outcome.value
    _log(request, outcome, error)
    response._has_been_logged = True  # noqa: SLF001 - Django's mark for its own logger
    if not safe:
        # get_token made or found the secret; without it the kept form could not be sent again.
        response.set_cookie(
            settings.CSRF_COOKIE_NAME,
            request.META["CSRF_COOKIE"],
            max_age=settings.CSRF_COOKIE_AGE,
            secure=settings.CSRF_COOKIE_SECURE,
            httponly=settings.CSRF_COOKIE_HTTPONLY,
            samesite=settings.CSRF_COOKIE_SAMESITE,
        )
    return response
