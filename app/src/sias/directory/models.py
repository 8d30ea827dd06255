"""Whom the directory knows, what its groups give, and what each pass over it found."""

from django.conf import settings
from django.db import models
from django.db.models import Q


class Card(models.Model):
    """What ties an agent to an entry of the directory. Agents without one are ours alone: the directory ends them never."""

    agent = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="directory_card")
    entry = models.CharField("entrée", max_length=36, unique=True)  # entryUUID: outlives a change of name
    dn = models.CharField("nom dans l'annuaire", max_length=500)
    left_at = models.DateTimeField("parti le", null=True)
    why_left = models.CharField("motif du départ", max_length=200, blank=True)

    class Meta:
        """Options."""

        verbose_name = "fiche d'annuaire"

    def __str__(self) -> str:
        return self.dn


class Subject(models.Model):
    """The identity under which an agent comes from an OpenID Connect provider, kept at their first sign-in."""

    issuer = models.CharField("fournisseur", max_length=200)
    subject = models.CharField("identité", max_length=255)
    agent = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    since = models.DateTimeField("depuis le", auto_now_add=True)

    class Meta:
        """Options."""

        verbose_name = "identité fédérée"
        constraints = (
            models.UniqueConstraint(fields=["issuer", "subject"], name="subject_once"),
            models.UniqueConstraint(fields=["issuer", "agent"], name="subject_of_agent"),
        )

    def __str__(self) -> str:
        return f"{self.agent} : {self.issuer}"


class GroupRule(models.Model):
    """What the members of a group are habilitated as. It counts once somebody else has validated it."""

    OWN = "*"  # the territory or the service of the agent's own unit

    group = models.CharField("groupe", max_length=100)
    profile = models.CharField("profil", max_length=4)
    territory = models.CharField("territoire", max_length=30)  # a code, or OWN
    service = models.CharField("service", max_length=30, blank=True)  # a code, OWN, or none
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+", verbose_name="demandée par"
    )
    requested_at = models.DateTimeField(auto_now_add=True)
    validated_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+", verbose_name="validée par"
    )
    validated_at = models.DateTimeField(null=True)

    class Meta:
        """Options."""

        verbose_name = "correspondance"
        ordering = ("group", "profile", "territory")
        constraints = (
            models.UniqueConstraint(fields=["group", "profile", "territory", "service"], name="group_rule_once"),
            models.CheckConstraint(
                condition=Q(validated_by__isnull=True)
                | Q(requested_by__isnull=True)
                | ~Q(validated_by=models.F("requested_by")),
                name="group_rule_two_persons",
            ),
        )

    def __str__(self) -> str:
        return f"{self.group} : {self.profile} {self.territory} {self.service}".strip()


class Run(models.Model):
    """A pass over the directory: asked for, done, and what became of it."""

    class Scope(models.TextChoices):
        """How much of it counts."""

        WHOLE = "complet", "Agents, groupes et départs"
        DEPARTURES = "departs", "Départs seulement"

    class State(models.TextChoices):
        """Where it stands."""

        REQUESTED = "demande", "Demandé"
        PREVIEW = "apercu", "Aperçu"
        APPLIED = "applique", "Appliqué"
        REFUSED = "refuse", "Refusé"
        FAILED = "echoue", "Échoué"

    scope = models.CharField("étendue", max_length=10, choices=Scope.choices, default=Scope.WHOLE)
    state = models.CharField("état", max_length=10, choices=State.choices, default=State.REQUESTED)
    dry = models.BooleanField("aperçu seulement", default=False)
    asked_at = models.DateTimeField("demandé le", auto_now_add=True)
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+", verbose_name="demandé par"
    )
    ended_at = models.DateTimeField("fait le", null=True)
    server = models.CharField("serveur", max_length=200, blank=True)
    counts = models.JSONField("comptes", default=dict)  # verdict -> how many; "lus", "inchanges", "prives"
    groups = models.JSONField("groupes", default=dict)  # name -> how many members
    problem = models.CharField("empêchement", max_length=500, blank=True)
    # How many agents may be locked out although that is more than usual, and why.
    allowed = models.PositiveIntegerField("départs admis", default=0)
    reason = models.CharField("motif", max_length=300, blank=True)

    class Meta:
        """Options."""

        verbose_name = "passage d'annuaire"
        ordering = ("-asked_at", "-id")
        indexes = (models.Index(fields=["asked_at"], name="run_requested", condition=Q(state="demande")),)

    def __str__(self) -> str:
        return f"Passage n° {self.pk}"


class RunRow(models.Model):
    """An entry that a pass did something about, or could not."""

    class Verdict(models.TextChoices):
        """What happens to the agent."""

        NEW = "nouveau", "Nouveau"
        CHANGED = "modifie", "Modifié"
        BACK = "revenu", "Revenu"
        GONE = "parti", "Parti"
        REJECTED = "rejete", "Rejeté"

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="rows")
    username = models.CharField("identifiant", max_length=150, blank=True)
    dn = models.CharField("nom dans l'annuaire", max_length=500)
    verdict = models.CharField("sort", max_length=10, choices=Verdict.choices)
    reason = models.CharField("motif", max_length=300, blank=True)
    differences = models.JSONField("différences", default=list)  # [label, before, after]

    class Meta:
        """Options."""

        ordering = ("verdict", "username", "id")
        indexes = (models.Index(fields=["run", "verdict", "username"], name="run_rows"),)

    def __str__(self) -> str:
        return self.username or self.dn
