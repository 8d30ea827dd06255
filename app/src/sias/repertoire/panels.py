"""Sections that other modules add to a person's page. The core knows none of them: each registers itself."""

from collections.abc import Callable
from dataclasses import dataclass

from django.http import HttpRequest

from sias.repertoire.models import Person


@dataclass(frozen=True)
class Panel:
    """A template, and what makes its context."""

    template: str
    context: Callable[[HttpRequest, Person], dict | None]  # None: this agent may not see the section


PANELS: list[Panel] = []


def register(template: str) -> Callable:
    """Register the function that makes the context of `template`."""

    def add(context: Callable[[HttpRequest, Person], dict | None]) -> Callable:
        PANELS.append(Panel(template, context))
        return context

    return add
