"""Who changes something, in which request and why: told to the database, for the length of a transaction."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse

from sias.platform.idempotency import key_of

SAFE = {"GET", "HEAD", "OPTIONS"}


def set_context(*, agent: int | None, request: str) -> None:
    """Tell the database who acts. Counts until the transaction ends: safe behind PgBouncer."""
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT set_config('sias.agent', %s, true), set_config('sias.request', %s, true)",
            [str(agent or ""), request],
        )


@contextmanager
def because(reason: str) -> Iterator[None]:
    """Give the changes inside the block their reason."""
    with transaction.atomic(using="default"), connections["default"].cursor() as cursor:
        cursor.execute("SELECT current_setting('sias.reason', true)")
        former = cursor.fetchone()[0] or ""
        cursor.execute("SELECT set_config('sias.reason', %s, true)", [reason])
        yield
        cursor.execute("SELECT set_config('sias.reason', %s, true)", [former])


class HistoryMiddleware:
    """Give each request that may write its context. Stands after sign-in, inside the request's transaction."""

    def __init__(self, get_response: Callable) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Nothing here: the view must be known first."""
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Callable, *_arguments: object) -> None:
        """Set the context of a signed-in agent's write."""
        if request.method in SAFE or not getattr(view, "login_required", True):
            return
        if request.user.is_authenticated:
            set_context(agent=request.user.pk, request=key_of(request) or uuid.uuid4().hex)
