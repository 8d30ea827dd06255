"""Other ways in and out than a password of ours. Modules register theirs in their AppConfig's `ready`.

Who checks a password is Django's own setting, AUTHENTICATION_BACKENDS.
"""

from collections.abc import Callable
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse


class SignInUnavailableError(Exception):
    """Whoever checks passwords cannot be asked now. The message says so to the agent, in French."""


@dataclass(frozen=True)
class Way:
    """Another way in: a link below the form, to the view of that name, while `open` says so."""

    label: str
    view: str
    open: Callable[[], bool]


WAYS: list[Way] = []
# Asked before a session ends: the answer that the agent gets instead of the sign-in page, None for no opinion.
FAREWELLS: list[Callable[[HttpRequest], HttpResponse | None]] = []


def register(label: str, view: str, shown: Callable[[], bool]) -> None:
    """Add a way in."""
    WAYS.append(Way(label, view, shown))


def farewell(function: Callable[[HttpRequest], HttpResponse | None]) -> Callable:
    """Register what to answer to an agent who signs out and came by another way."""
    FAREWELLS.append(function)
    return function
