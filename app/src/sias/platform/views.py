"""Health, metrics, errors."""

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from sias.platform import health, metrics
from sias.platform.failover import no_database


@login_not_required
@no_database
@require_safe
def live(_request: HttpRequest) -> HttpResponse:
    """Answer as long as this process can."""
    return JsonResponse({"status": "ok", "room": settings.SIAS_ROOM, "host": settings.SIAS_HOST})


@login_not_required
@no_database
@require_safe
def ready(_request: HttpRequest) -> HttpResponse:
    """200 when this host can take writes and documents, else 503 with each check's result."""
    checks = {"database": health.database_accepts_writes(), "documents": health.documents_usable()}
    ok = all(check["ok"] for check in checks.values())
    return JsonResponse(
        {
            "status": "ok" if ok else "unavailable",
            "room": settings.SIAS_ROOM,
            "host": settings.SIAS_HOST,
            "version": settings.SIAS_VERSION,
            "checks": checks,
        },
        status=200 if ok else 503,
    )


@login_not_required
@no_database
@require_safe
def metrics_page(_request: HttpRequest) -> HttpResponse:
    """Figures for Prometheus; HAProxy's public front does not let this path through."""
    body, kind = metrics.render()
    return HttpResponse(body, content_type=kind)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Say it in words."""
    return render(
        request,
        "400.html",
        {
            "reason": "La page était ouverte depuis trop longtemps ou vient d'ailleurs. Rechargez-la puis recommencez.",
            "detail": reason,
        },
        status=403,
    )


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001 - Django's interface
    """Say it in words."""
    return render(request, "404.html", status=404)
