"""The one door to household files: who may open one, and that it was opened."""

from collections.abc import Callable

from django.http import Http404, HttpRequest

from sias.repertoire import relations
from sias.repertoire.models import Household


class MergedError(Exception):
    """The household was merged into another: go there."""

    def __init__(self, into: int) -> None:
        super().__init__(into)
        self.into = into


def requires(domain: str, action: str) -> Callable:
    """Mark a view with the action that its agent must hold."""

    def marked(view: Callable) -> Callable:
        view.sias_requires = (domain, action)
        return view

    return marked


def open_household(request: HttpRequest, identity: int, action: str = "lire") -> Household:  # noqa: ARG001 - asked of the rights
    """Return the household; raise Http404, or MergedError when it lives on in another."""
    households = Household.objects.using("default") if request.method == "POST" else Household.objects
    found = households.filter(pk=identity).first()
    if found is None:
        if into := relations.successor(Household, identity):
            raise MergedError(into)
        raise Http404
    return found
