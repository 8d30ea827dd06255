"""The API itself: versions, keys and scopes, throttling, idempotent writes, errors. Modules add routers with `add`.

    router = Router(tags=["Tâches"])
    @router.post("", response={201: TaskOut, **ERRORS}, auth=Scope("tasks:write"))
    @idempotent
    def create(request, data: TaskIn): return 201, {...}
    add("/tasks", router)

`request.auth` is the partner.
"""

import hashlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Annotated

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import connections
from django.db.models import F
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Header, NinjaAPI, Router, Schema, Status
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.security import HttpBearer
from pydantic import StringConstraints

from sias.api.models import Key, Partner, Write
from sias.api.problems import ProblemError, logger, problem, unavailable
from sias.habilitations.rights import for_everyone
from sias.platform.outage import is_transient

SCOPES = {
    "persons:read": "lire l'identité d'une personne",
    "persons:search": "chercher une personne",
    "involvements:read": "savoir quels domaines suivent une personne",
    "tasks:write": "déposer, corriger et clore ses tâches",
    "third-parties:read": "lire les tiers",
    "third-parties:validate": "valider ou refuser un tiers (Finances)",
}
SHARE_EVERY = 1.0  # s between two looks at what the others counted
USED_AGAIN = timedelta(hours=1)  # how exact the date of a key's last use is
BODY_MAX = 100_000  # bytes

# Text without control characters: PostgreSQL stores no NUL, and a log line no line feed.
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", strip_whitespace=True, max_length=1000)]
KeyText = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,100}$")]


class Problem(Schema):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


ERRORS = {(400, 401, 403, 404, 409, 413, 422, 429, 503): Problem}

api = NinjaAPI(
    title="SIAS",
    version="1",
    description="Échanges avec les partenaires et les applications du Département. Erreurs : application/problem+json.",
    urls_namespace="api-v1",
    docs_url=None,  # its page would load scripts from elsewhere
)


_USAGE = """
WITH mine AS (
  INSERT INTO api_usage (partner_id, worker, calls, at) VALUES (%(partner)s, %(worker)s, %(calls)s, now())
  ON CONFLICT (partner_id, worker) DO UPDATE SET calls = EXCLUDED.calls, at = EXCLUDED.at)
SELECT coalesce(sum(calls), 0) FROM api_usage
 WHERE partner_id = %(partner)s AND worker <> %(worker)s AND at > now() - interval '60 seconds'
"""


class Throttle(threading.local):
    """Calls per minute of each partner, over all hosts of both rooms.

    Each thread counts its own calls, writes the count into a row of its own once a second at most, in the transaction of
    the call, and reads the others' with the same statement: nobody waits for anybody's row, and what the others did in
    the last second is not known yet. The writing of a call that is refused is undone with it, and comes with the next.
    """

    def __init__(self) -> None:
        self.worker = f"{settings.SIAS_HOST}:{os.getpid()}:{threading.get_native_id()}"[:80]
        self.calls: dict[int, deque[float]] = {}
        self.elsewhere: dict[int, tuple[float, int]] = {}  # when it was asked, and the answer

    def wait(self, partner: Partner) -> float:
        """Count a call; return 0, or the seconds until the next one is allowed."""
        now = time.monotonic()
        calls = self.calls.setdefault(partner.pk, deque())
        while calls and calls[0] <= now - 60:
            calls.popleft()
        asked, elsewhere = self.elsewhere.get(partner.pk, (-SHARE_EVERY, 0))
        if now - asked >= SHARE_EVERY:
            elsewhere = self._share(partner, len(calls) + 1)
            self.elsewhere[partner.pk] = now, elsewhere
        if len(calls) + elsewhere >= partner.per_minute:
            return max(calls[0] + 60 - now, 1.0) if calls else 60.0
        calls.append(now)
        return 0.0

    def _share(self, partner: Partner, count: int) -> int:
        with connections["default"].cursor() as cursor:
            cursor.execute(_USAGE, {"partner": partner.pk, "worker": self.worker, "calls": count})
            return int(cursor.fetchone()[0])


throttle = Throttle()


class Scope(HttpBearer):
    """A key that holds a scope, sent as `Authorization: Bearer sias_...`."""

    def __init__(self, scope: str) -> None:
        if scope not in SCOPES:
            raise LookupError(f"unknown scope {scope!r}")
        super().__init__()
        self.scope = scope

    def authenticate(self, request: HttpRequest, token: str) -> Partner | None:
        """Return the partner, or refuse: 401 unknown key, 429 too many calls, 403 scope not held."""
        key = Key.find(token)
        if key is None:
            return None
        partner = key.partner
        if (seconds := throttle.wait(partner)) > 0:
            raise ProblemError(
                429,
                f"Plus de {partner.per_minute} appels en une minute.",
                headers={"Retry-After": str(int(seconds) + 1)},
            )
        if self.scope not in partner.scopes:
            raise ProblemError(403, f"La clé ne porte pas le droit {self.scope}.", scope=self.scope)
        now = timezone.now()
        if key.last_used_at is None or key.last_used_at < now - USED_AGAIN:
            Key.objects.filter(pk=key.pk).update(last_used_at=now)
        request.user = partner.agent
        return partner


def idempotent(operation: Callable) -> Callable:
    """Require `Idempotency-Key`; a repetition gets the first answer. The operation returns (status, JSON object)."""

    @wraps(operation)
    def wrapper(request: HttpRequest, *args: object, **kwargs: object) -> Status:
        key = request.headers.get("Idempotency-Key", "")
        mark = hashlib.sha256(f"{request.method} {request.path}\0".encode() + request.body).digest()
        mine = {"partner": request.auth, "key": key}
        # ON CONFLICT waits for a concurrent twin to end: it then sees the twin's row.
        Write.objects.bulk_create([Write(**mine, fingerprint=mark)], ignore_conflicts=True)
        record = Write.objects.using("default").select_for_update().get(**mine)
        if record.status is not None:
            if bytes(record.fingerprint) != mark:
                raise ProblemError(409, "Cette clé d'idempotence a déjà servi pour un autre envoi.")
            # It also writes, so that its COMMIT waits until the first one is in both rooms.
            Write.objects.filter(pk=record.pk).update(replays=F("replays") + 1)
            return Status(record.status, record.body)
        status, body = operation(request, *args, **kwargs)
        record.status, record.body = status, json.loads(json.dumps(body, default=str))
        record.save(update_fields=["status", "body"])
        return Status(status, record.body)

    # Declared, so that the OpenAPI description tells callers of it and ninja checks its shape.
    wrapper._ninja_contribute_args = [  # noqa: SLF001 - ninja's own hook
        (
            "idempotency_key",
            Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{8,100}$")],
            Header(..., alias="Idempotency-Key"),
        )
    ]
    return _without(wrapper, "idempotency_key")


def _without(operation: Callable, name: str) -> Callable:
    """Drop a parameter that only the description needs."""

    @wraps(operation)
    def wrapper(request: HttpRequest, *args: object, **kwargs: object) -> object:
        kwargs.pop(name, None)
        return operation(request, *args, **kwargs)

    wrapper._ninja_contribute_args = operation._ninja_contribute_args  # noqa: SLF001
    return wrapper


def add(prefix: str, router: Router) -> None:
    """Add the resources of a module, in the `ready` of its AppConfig."""
    api.add_router(prefix, router)


@api.exception_handler(ProblemError)
def _problem(_request: HttpRequest, error: ProblemError) -> HttpResponse:
    return problem(error.status, error.detail, headers=error.headers, **error.members)


@api.exception_handler(AuthenticationError)
def _unknown(_request: HttpRequest, _error: AuthenticationError) -> HttpResponse:
    return problem(401, "Clé absente, inconnue, expirée ou révoquée.", headers={"WWW-Authenticate": "Bearer"})


@api.exception_handler(ValidationError)
def _invalid(_request: HttpRequest, error: ValidationError) -> HttpResponse:
    # Place and reason only: what was sent may be personal.
    errors = [{"field": ".".join(str(part) for part in one["loc"]), "reason": one["msg"]} for one in error.errors]
    return problem(422, "La demande n'a pas la forme attendue.", errors=errors)


@api.exception_handler(HttpError)
def _http(_request: HttpRequest, error: HttpError) -> HttpResponse:
    return problem(error.status_code, str(error))


@api.exception_handler(Http404)
def _missing(_request: HttpRequest, _error: Http404) -> HttpResponse:
    return problem(404, "Cette ressource n'existe pas.")


@api.exception_handler(PermissionDenied)
def _forbidden(_request: HttpRequest, _error: PermissionDenied) -> HttpResponse:
    return problem(403, "Les habilitations de ce partenaire ne permettent pas cette action.")


@api.exception_handler(Exception)
def _defect(request: HttpRequest, error: Exception) -> HttpResponse:
    if is_transient(error):
        raise error  # the failover middleware repeats the request or answers 503
    logger.error("500 %s %s", request.method, request.path, exc_info=error)
    return problem(500, "Erreur interne. Elle est consignée.")


def urls() -> tuple:
    """Return the addresses of the API; keys take the place of sessions, but for the description."""
    patterns, *names = api.urls
    for pattern in patterns:
        if pattern.name != "openapi-json":
            pattern.callback.login_required = False
        else:
            pattern.callback = for_everyone(pattern.callback)
        pattern.callback.sias_unavailable = unavailable
    return (patterns, *names)
