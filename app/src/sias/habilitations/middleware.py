"""No view without a rule: refuse what carries no mark, enforce what does, and tell PostgreSQL who asks."""

from collections.abc import Callable

from django.db import connections
from django.http import HttpRequest, HttpResponse

from sias.habilitations.rights import AccessRefusedError, can, rights_of
from sias.platform.postgresql.session import say, session_settings
from sias.platform.routing import reads


class HabilitationMiddleware:
    """See the module. Stands after sign-in: views that are open to strangers carry `login_required = False`."""

    def __init__(self, get_response: Callable) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Settings said for an agent end with the request."""
        with session_settings():
            return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Callable, _args: tuple, _kwargs: dict) -> None:
        """Refuse, or let through with the agent's rights told to the database."""
        if not getattr(view, "login_required", True) or not request.user.is_authenticated:
            return
        rule = getattr(view, "sias_requires", None)
        if rule is None:
            raise AccessRefusedError("-", request.path, why="vue sans règle")
        rights = rights_of(request.user)
        say(agent=str(request.user.pk), domaines=",".join(rights.readable_domains()))
        connections[reads()].say_settings()
        if rule and not can(request.user, *rule):
            raise AccessRefusedError(*rule, why="profil")
