"""The log's tables. Their SQL (partitions, chain, privileges, policies) is in the first migration."""

from django.db import models


class Action(models.TextChoices):
    """What was done."""

    READ = "consultation", "Consultation"
    SEARCH = "recherche", "Recherche"
    CREATE = "creation", "Création"
    CHANGE = "modification", "Modification"
    DELETE = "suppression", "Suppression"
    EXPORT = "export", "Export ou impression"
    REFUSED = "refus", "Accès refusé"
    BREAK_GLASS = "acces_exceptionnel", "Accès exceptionnel"
    RIGHTS = "habilitation", "Habilitation modifiée"
    SIGN_IN = "connexion", "Connexion"
    SIGN_IN_FAILED = "connexion_refusee", "Connexion refusée"
    SIGN_OUT = "deconnexion", "Déconnexion"
    LOG = "journal", "Lecture du journal"
    PURGE = "purge", "Fin de conservation"


class Entry(models.Model):
    """One access. No foreign key: the log outlives what it speaks of."""

    id = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField("enregistré le")
    happened_at = models.DateTimeField("date")  # earlier than `at` when the entry waited for a primary
    agent_id = models.BigIntegerField(null=True)
    agent = models.CharField("agent", max_length=150)
    profiles = models.CharField("profils", max_length=200)
    action = models.CharField("action", max_length=30, choices=Action.choices)
    domain = models.CharField("domaine", max_length=40)
    object_type = models.CharField(max_length=60)
    object_id = models.CharField(max_length=60)
    label = models.CharField("objet", max_length=200)
    person_id = models.BigIntegerField(null=True)
    reason = models.CharField("motif", max_length=500)
    detail = models.JSONField()
    origin = models.GenericIPAddressField(null=True)
    host = models.CharField(max_length=100)
    stream = models.SmallIntegerField()
    seq = models.BigIntegerField()
    previous = models.BinaryField()
    hash = models.BinaryField()

    class Meta:
        """Options."""

        managed = False
        db_table = "journal_entry"
        ordering = ("-at", "-id")
        verbose_name = "accès"

    def __str__(self) -> str:
        return f"{self.at:%d/%m/%Y %H:%M} {self.agent} {self.get_action_display()} {self.label}"


class Anchor(models.Model):
    """Where every chain stood at a moment, sealed with a key that the database does not have."""

    at = models.DateTimeField(auto_now_add=True)
    heads = models.JSONField()  # {"2026-11/7": [sequence, hash in hexadecimal]}
    seal = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.at:%d/%m/%Y %H:%M}"
