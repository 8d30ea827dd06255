"""The groups of the imaginary directory and what they give, one line that waits for its second person, and a pass."""

from django.utils import timezone

from sias.directory.models import GroupRule, Run, RunRow
from sias.directory.sample import rules
from sias.platform.demonstration import Scene, demonstration


@demonstration(order=45)
def make(scene: Scene) -> None:
    """Make them; the pass is a look that nobody applied."""
    now = timezone.now()
    rules()
    GroupRule.objects.get_or_create(
        group="sias-medecins", profile="ME", territory="57", defaults={"requested_by": scene.colleague}
    )
    counts = {"lus": 4, "inchanges": 1, "nouveau": 1, "parti": 1, "rejete": 1, "prives": 1}
    run = Run.objects.create(dry=True, state=Run.State.PREVIEW, ended_at=now, counts=counts, asked_by=scene.agent)
    base = "ou=agents,dc=sias,dc=internal"
    RunRow.objects.bulk_create(
        [
            RunRow(
                run=run,
                username="eschmitt",
                dn=f"uid=eschmitt,{base}",
                verdict=RunRow.Verdict.NEW,
                differences=[["Nom", "", "Schmitt"], ["Prénom", "", "Élise"], ["Service", "", "UTAS-METZ"]],
            ),
            RunRow(
                run=run,
                username="kweber",
                dn=f"uid=kweber,{base}",
                verdict=RunRow.Verdict.GONE,
                reason="absent de l'annuaire",
            ),
            RunRow(
                run=run,
                dn=f"cn=Copieur,{base}",
                verdict=RunRow.Verdict.REJECTED,
                reason="Sans identifiant (uid).",
            ),
        ]
    )
