"""Headers and figures around every answer."""

import time
from collections.abc import Callable

from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse

from sias.platform import metrics

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
METHODS = {"GET", "HEAD", "POST", "OPTIONS"}


class MetricsMiddleware:
    """Count answers and their time, by name of view."""

    def __init__(self, get_response: Callable) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Time the answer."""
        start = time.perf_counter()
        response = self.get_response(request)
        match = getattr(request, "resolver_match", None)
        view = match.view_name if match else "-"
        method = request.method if request.method in METHODS else "other"
        metrics.REQUESTS.labels(view, method, response.status_code).inc()
        metrics.SECONDS.labels(view).observe(time.perf_counter() - start)
        return response


class RoomMiddleware:
    """Tell by which room and host a request was answered."""

    def __init__(self, get_response: Callable) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Add the headers."""
        response = self.get_response(request)
        response["X-SIAS-Room"] = settings.SIAS_ROOM
        response["X-SIAS-Host"] = settings.SIAS_HOST
        response["X-SIAS-Version"] = settings.SIAS_VERSION
        return response


class HeadersMiddleware:
    """Content security policy, and no copy of a case page in any cache."""

    def __init__(self, get_response: Callable) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Add what the view has not set itself."""
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        response.headers.setdefault("Cache-Control", "no-store, private")
        response.headers.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
        return response


class SignInMiddleware(LoginRequiredMiddleware):
    """Every view wants a signed-in agent unless it says otherwise.

    Django's own asks the database who the agent is before it looks whether the view cares: a health check that comes
    with a cookie would fail with the database.
    """

    def process_view(self, request: HttpRequest, view_func: Callable, view_args: tuple, view_kwargs: dict):
        """Let open views through without a look at the session."""
        if not getattr(view_func, "login_required", True):
            return None
        return super().process_view(request, view_func, view_args, view_kwargs)


def platform_context(_request: HttpRequest) -> dict:
    """Room, host and version for the footer of every page."""
    return {
        "room": settings.SIAS_ROOM,
        "host": settings.SIAS_HOST,
        "version": settings.SIAS_VERSION,
        "environment": settings.ENVIRONMENT,
    }
