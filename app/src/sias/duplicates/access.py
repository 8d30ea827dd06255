"""Which pairs an agent may examine: those whose both files they may open."""

from django.http import HttpRequest

from sias.duplicates.models import Candidate, Kind
from sias.habilitations.rights import scope


def examinable(request: HttpRequest, candidates: list[Candidate]) -> list[tuple[Candidate, object, object]]:
    """Return the pairs with their two files, those left out that are gone or out of the agent's reach."""
    found = []
    for kind in Kind:
        mine = [item for item in candidates if item.kind == kind]
        wanted = {identity for item in mine for identity in (item.left, item.right)}
        rows = {row.pk: row for row in reach(request, kind, wanted)}
        found += [(item, rows[item.left], rows[item.right]) for item in mine if {item.left, item.right} <= rows.keys()]
    order = {item.pk: place for place, item in enumerate(candidates)}
    return sorted(found, key=lambda row: order[row[0].pk])


def reach(request: HttpRequest, kind: Kind, wanted: set[int]) -> list:
    """Return the files that the agent may merge: their territory, none that is closed to them."""
    rows = kind.model.objects.using("default") if request.method == "POST" else kind.model.objects
    return list(scope(request.user, rows.filter(pk__in=wanted), "repertoire", "fusionner"))
