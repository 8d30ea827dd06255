"""What changed: one row per changed row, written by a trigger, never by the application.

Why not django-pghistory: its event tables must be writable by the role that runs the application, and each of them
repeats the columns of its model, so that every expand/contract migration would have a twin. Here one function, owned by
the schema's owner, writes one table; the application's role may only read it.
"""

from django.conf import settings
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models.functions import Now


class Change(models.Model):
    """A row that was created, changed or deleted. An update holds only the columns that differ."""

    class Operation(models.TextChoices):
        """What happened to the row."""

        INSERT = "I", "création"
        UPDATE = "U", "modification"
        DELETE = "D", "suppression"
        LOAD = "L", "chargement"  # a whole population at once: one row for all

    at = models.DateTimeField("le", db_default=Now())
    # A log outlives whom it names: no constraint, and no look-up of one when it is written.
    agent = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        null=True,
        related_name="+",
        verbose_name="par",
    )
    request = models.TextField("demande", blank=True)
    reason = models.TextField("motif", blank=True)
    origin = models.TextField("rôle et programme", blank=True)
    operation = models.CharField(max_length=1, choices=Operation.choices)
    table_name = models.TextField()
    row_id = models.TextField(blank=True)
    person_id = models.BigIntegerField(null=True)
    household_id = models.BigIntegerField(null=True)
    left_household_id = models.BigIntegerField(null=True)  # an update that took the row out of this household
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)

    class Meta:
        """Options."""

        ordering = ("-id",)
        indexes = (
            models.Index(
                fields=["person_id", "-id"], name="change_person", condition=models.Q(person_id__isnull=False)
            ),
            models.Index(
                fields=["household_id", "-id"], name="change_household", condition=models.Q(household_id__isnull=False)
            ),
            models.Index(
                fields=["left_household_id", "-id"],
                name="change_left_household",
                condition=models.Q(left_household_id__isnull=False),
            ),
            models.Index(fields=["table_name", "row_id", "-id"], name="change_row"),
            BrinIndex(fields=["at"], name="change_at"),
        )

    def __str__(self) -> str:
        return f"{self.get_operation_display()} {self.table_name} {self.row_id}"
