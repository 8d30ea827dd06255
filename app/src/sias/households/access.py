"""The one door to household files: who may open one, and that it was opened."""

from django.http import Http404, HttpRequest

from sias.habilitations.rights import check
from sias.journal.access import Action, record_access
from sias.repertoire import relations
from sias.repertoire.models import Household


class MergedError(Exception):
    """The household was merged into another: go there."""

    def __init__(self, into: int) -> None:
        super().__init__(into)
        self.into = into


def open_household(request: HttpRequest, identity: int, action: str = "lire") -> Household:
    """Return the household, its opening logged; raise Http404, AccessRefusedError, or MergedError when it lives on in another."""
    households = Household.objects.using("default") if request.method == "POST" else Household.objects
    found = households.filter(pk=identity).first()
    if found is None:
        if into := relations.successor(Household, identity):
            raise MergedError(into)
        raise Http404
    check(request.user, "repertoire", action, found)
    record_access(request.user, found, Action.CHANGE if request.method == "POST" else Action.READ, domain="repertoire")
    return found
