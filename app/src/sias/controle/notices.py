"""Whoever examines exceptional accesses hears of each: a task, in the transaction that opens the access."""

from django.dispatch import receiver
from django.urls import reverse

from sias.controle.apps import OFFICER
from sias.habilitations.models import BreakGlass
from sias.habilitations.signals import exceptional_access_opened
from sias.tasks import services as tasks


def task_key(access: BreakGlass) -> str:
    """Return the external key of the task about an access."""
    return f"acces-exceptionnel-{access.pk}"


@receiver(exceptional_access_opened)
def opened(access: BreakGlass, **_kwargs: object) -> None:
    """Put the access into the officer's box. Neither reason nor person: the page of the accesses shows them."""
    tasks.push(
        "acces-exceptionnel",
        f"Accès exceptionnel de {access.agent}",
        service=OFFICER,
        url=reverse("controle:exceptional"),
        external_key=task_key(access),
        agent=access.agent,
    )
