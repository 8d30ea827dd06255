"""Errors as RFC 9457 wants them: `application/problem+json`."""

import json
import logging
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse

from sias.platform.outage import Outcome

logger = logging.getLogger("sias.api")


class ProblemError(Exception):
    """An answer that is an error: status, what is wrong in one French sentence, more members."""

    def __init__(self, status: int, detail: str, *, headers: dict | None = None, **members: object) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.members = status, detail, headers or {}, members


def problem(status: int, detail: str, *, headers: dict | None = None, **members: object) -> HttpResponse:
    """Make the answer."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **members}
    return HttpResponse(
        json.dumps(body, ensure_ascii=False), status=status, content_type="application/problem+json", headers=headers
    )


def unavailable(_request: HttpRequest, outcome: Outcome, retry_after: int) -> HttpResponse:
    """Answer while the database moves."""
    known = (
        "Rien n'a été enregistré."
        if outcome is Outcome.NOTHING_SAVED
        else "On ne sait pas si l'écriture a eu lieu : renvoyez-la avec la même clé d'idempotence."
    )
    return problem(
        503,
        f"Le service revient dans quelques secondes. {known}",
        headers={"Retry-After": str(retry_after), "X-SIAS-Outcome": outcome.value},
    )
