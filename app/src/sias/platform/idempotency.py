"""The same write sent twice is done once: its key commits in the same transaction as the write."""

import hashlib
import re
import uuid
from collections.abc import Callable
from functools import wraps

from django.contrib import messages
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from sias.platform import metrics
from sias.platform.models import IdempotencyKey

_KEY = re.compile(r"^[A-Za-z0-9._:-]{8,100}$")


def new_key() -> str:
    """Return a key for a form that is about to be shown."""
    return uuid.uuid4().hex


def key_of(request: HttpRequest) -> str | None:
    """Return the key that came with the request (header or field), None when absent or malformed."""
    key = request.headers.get("Idempotency-Key") or request.POST.get("idempotency_key", "")
    return key if _KEY.match(key) else None


def _fingerprint(request: HttpRequest) -> bytes:
    digest = hashlib.sha256(request.path.encode())
    for name in sorted(request.POST):
        if name not in {"csrfmiddlewaretoken", "idempotency_key"}:
            digest.update(repr((name, request.POST.getlist(name))).encode())
    for name in sorted(request.FILES):
        for upload in request.FILES.getlist(name):
            digest.update(repr((name, upload.name, upload.size)).encode())
            for chunk in upload.chunks():
                digest.update(chunk)
            upload.seek(0)
    return digest.digest()


def idempotent(view: Callable) -> Callable:
    """Require a key on POST, and answer a repetition with the first answer.

    A repetition also writes (it counts itself), so that its own COMMIT waits until the first one is in both rooms: the
    first may have been committed in one room only, its wait for the other cancelled.
    """

    @wraps(view)
    def wrapper(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        if request.method != "POST":
            return view(request, *args, **kwargs)
        key = key_of(request)
        if key is None:
            return render(
                request, "400.html", {"reason": "Cet envoi ne porte pas de clé d'idempotence valable."}, status=400
            )
        mark = _fingerprint(request)
        mine = {"agent_id": request.user.pk, "key": key}
        # ON CONFLICT waits for a concurrent twin to end: it then sees the twin's row.
        IdempotencyKey.objects.bulk_create([IdempotencyKey(**mine, fingerprint=mark)], ignore_conflicts=True)
        record = IdempotencyKey.objects.using("default").select_for_update().get(**mine)
        if record.status is not None:
            if bytes(record.fingerprint) != mark:
                return render(
                    request,
                    "400.html",
                    {"reason": "Cette clé d'idempotence a déjà servi pour un autre envoi. Rien n'a été enregistré."},
                    status=409,
                )
            IdempotencyKey.objects.filter(pk=record.pk).update(replays=F("replays") + 1, last_seen=timezone.now())
            metrics.REPLAYS.inc()
            response = HttpResponse(status=record.status)
            if record.location:
                response["Location"] = record.location
            response["Idempotent-Replay"] = "true"
            messages.info(request, "Cet envoi était déjà enregistré : il ne l'a pas été une seconde fois.")
            return response
        response = view(request, *args, **kwargs)
        if response.status_code in {201, 302, 303}:
            record.status, record.location = response.status_code, response.get("Location", "")
            record.save(update_fields=["status", "location"])
        else:
            record.delete()  # refused by the form: the corrected form may come back with the same key
        return response

    return wrapper
