"""Tasks, what happened to them, absences."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone

from sias.repertoire.models import Person


class Task(models.Model):
    """Something that an agent or a service has to do, whichever workflow or application it comes from."""

    person_path = "person"
    owner_path = "assignee"

    class State(models.TextChoices):
        """Open until somebody closes it."""

        OPEN = "ouverte", "À faire"
        DONE = "faite", "Faite"
        CANCELLED = "annulee", "Annulée"

    kind = models.CharField("circuit", max_length=50)
    title = models.CharField("objet", max_length=150)
    body = models.CharField("précisions", max_length=1000, blank=True)
    application = models.CharField("application", max_length=40, default="SIAS")
    external_key = models.CharField("clé dans l'application", max_length=100, blank=True)
    url = models.CharField("lien", max_length=500, blank=True)
    person = models.ForeignKey(
        Person, on_delete=models.CASCADE, null=True, related_name="tasks", db_index=False, verbose_name="personne"
    )
    service = models.CharField("service", max_length=100, blank=True)
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        related_name="tasks",
        db_index=False,
        verbose_name="confiée à",
    )
    due = models.DateField("échéance", null=True)
    urgent = models.BooleanField("urgente", default=False)
    state = models.CharField("état", max_length=10, choices=State.choices, default=State.OPEN)
    escalated_at = models.DateTimeField("signalée en retard le", null=True)
    created_at = models.DateTimeField("créée le", auto_now_add=True)
    closed_at = models.DateTimeField("close le", null=True)
    closed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False
    )
    version = models.PositiveIntegerField(default=1)

    class Meta:
        """Options."""

        verbose_name = "tâche"
        constraints = (
            models.UniqueConstraint(
                fields=["application", "external_key"], name="task_external_key", condition=~Q(external_key="")
            ),
            models.CheckConstraint(
                condition=~Q(state="ouverte") | Q(assignee__isnull=False) | ~Q(service=""), name="task_has_an_inbox"
            ),
        )
        # The boxes look at open tasks only, and those are few beside the closed ones.
        indexes = (
            models.Index(
                F("assignee"), F("due").asc(nulls_last=True), "id", name="task_of_agent", condition=Q(state="ouverte")
            ),
            models.Index(
                F("service"), F("due").asc(nulls_last=True), "id", name="task_of_service", condition=Q(state="ouverte")
            ),
            models.Index(fields=["due"], name="task_late", condition=Q(state="ouverte", escalated_at__isnull=True)),
            models.Index(fields=["closed_by", "-closed_at"], name="task_closed", condition=~Q(state="ouverte")),
            models.Index(fields=["person"], name="task_person", condition=Q(person__isnull=False)),
        )

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        """Page of the task."""
        return reverse("tasks:task", args=[self.pk])

    @property
    def open(self) -> bool:
        """Whether it is still to do."""
        return self.state == self.State.OPEN

    @property
    def late(self) -> bool:
        """Whether its date has passed."""
        return self.open and self.due is not None and self.due < timezone.localdate()


class TaskEvent(models.Model):
    """What happened to a task, who did it, what they said."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField(auto_now_add=True)
    agent = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False
    )
    what = models.CharField(max_length=150)
    note = models.CharField(max_length=500, blank=True)

    class Meta:
        """Options."""

        ordering = ("at", "id")

    def __str__(self) -> str:
        return self.what


class Absence(models.Model):
    """While an agent is away, another one sees and does their tasks."""

    owner_path = "agent"

    agent = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="absences")
    substitute = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="substitutions")
    since = models.DateField("du")
    until = models.DateField("au")  # last day away

    class Meta:
        """Options."""

        ordering = ("-since",)
        constraints = (
            models.CheckConstraint(condition=Q(until__gte=F("since")), name="absence_dates"),
            models.CheckConstraint(condition=~Q(agent=F("substitute")), name="absence_substitute_is_another"),
        )

    def __str__(self) -> str:
        return f"{self.agent} remplacé par {self.substitute}"
