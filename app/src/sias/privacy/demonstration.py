"""Requests of persons."""

from django.utils import timezone

from sias.platform.demonstration import Scene, demonstration
from sias.privacy.services import receive


@demonstration(order=40)
def make(scene: Scene) -> None:
    """One of each of the frequent kinds."""
    today = timezone.localdate()
    for person, kind, detail in (
        (scene.persons[1], "acces", "Une copie de tout mon dossier"),
        (scene.persons[2], "rectification", "Mon prénom s'écrit avec deux n"),
        (scene.persons[3], "limitation", "Je conteste la composition du foyer"),
    ):
        receive(person, {"kind": kind, "detail": detail, "channel": "courrier", "received_on": today}, scene.agent)
