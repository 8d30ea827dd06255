"""Who follows a person, on the person's page."""

from django.http import HttpRequest

from sias.crossdomain.models import Involvement, Signpost
from sias.crossdomain.services import DOMAINS, Domain
from sias.habilitations.rights import can
from sias.habilitations.table import table
from sias.repertoire.models import Person
from sias.repertoire.panels import register


@register("crossdomain/panel.html")
def involvements(request: HttpRequest, person: Person) -> dict:
    """Current follow-ups first. A protected domain shows its service only, but to whom may read it."""
    rows = []
    for record in Involvement.objects.filter(person=person).select_related("referent"):
        domain = DOMAINS.get(record.domain, Domain(record.domain, record.domain, protected=True))
        rows.append(
            {
                "record": record,
                "name": domain.name,
                "veiled": domain.protected
                and not (table().knows(domain.code, "lire") and can(request.user, domain.code, "lire", person)),
            }
        )
    # Those that the database hides from this agent.
    shown = {row["record"].pk for row in rows}
    rows += [
        {"record": signpost, "name": "", "veiled": True}
        for signpost in Signpost.objects.filter(person=person).exclude(pk__in=shown)
    ]
    rows.sort(key=lambda row: getattr(row["record"], "until", None) is not None)
    return {"rows": rows}
