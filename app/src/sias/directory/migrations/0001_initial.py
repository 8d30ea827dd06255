"""The tables of the directory."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Card",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("entry", models.CharField(max_length=36, unique=True, verbose_name="entrée")),
                ("dn", models.CharField(max_length=500, verbose_name="nom dans l'annuaire")),
                ("left_at", models.DateTimeField(null=True, verbose_name="parti le")),
                ("why_left", models.CharField(blank=True, max_length=200, verbose_name="motif du départ")),
                (
                    "agent",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="directory_card",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "fiche d'annuaire",
            },
        ),
        migrations.CreateModel(
            name="Run",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "scope",
                    models.CharField(
                        choices=[("complet", "Agents, groupes et départs"), ("departs", "Départs seulement")],
                        default="complet",
                        max_length=10,
                        verbose_name="étendue",
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("demande", "Demandé"),
                            ("apercu", "Aperçu"),
                            ("applique", "Appliqué"),
                            ("refuse", "Refusé"),
                            ("echoue", "Échoué"),
                        ],
                        default="demande",
                        max_length=10,
                        verbose_name="état",
                    ),
                ),
                ("dry", models.BooleanField(default=False, verbose_name="aperçu seulement")),
                ("asked_at", models.DateTimeField(auto_now_add=True, verbose_name="demandé le")),
                ("ended_at", models.DateTimeField(null=True, verbose_name="fait le")),
                ("server", models.CharField(blank=True, max_length=200, verbose_name="serveur")),
                ("counts", models.JSONField(default=dict, verbose_name="comptes")),
                ("groups", models.JSONField(default=dict, verbose_name="groupes")),
                ("problem", models.CharField(blank=True, max_length=500, verbose_name="empêchement")),
                ("allowed", models.PositiveIntegerField(default=0, verbose_name="départs admis")),
                ("reason", models.CharField(blank=True, max_length=300, verbose_name="motif")),
                (
                    "asked_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="demandé par",
                    ),
                ),
            ],
            options={
                "verbose_name": "passage d'annuaire",
                "ordering": ("-asked_at", "-id"),
            },
        ),
        migrations.CreateModel(
            name="RunRow",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("username", models.CharField(blank=True, max_length=150, verbose_name="identifiant")),
                ("dn", models.CharField(max_length=500, verbose_name="nom dans l'annuaire")),
                (
                    "verdict",
                    models.CharField(
                        choices=[
                            ("nouveau", "Nouveau"),
                            ("modifie", "Modifié"),
                            ("revenu", "Revenu"),
                            ("parti", "Parti"),
                            ("rejete", "Rejeté"),
                        ],
                        max_length=10,
                        verbose_name="sort",
                    ),
                ),
                ("reason", models.CharField(blank=True, max_length=300, verbose_name="motif")),
                ("differences", models.JSONField(default=list, verbose_name="différences")),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="rows", to="directory.run"
                    ),
                ),
            ],
            options={
                "ordering": ("verdict", "username", "id"),
            },
        ),
        migrations.CreateModel(
            name="Subject",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("issuer", models.CharField(max_length=200, verbose_name="fournisseur")),
                ("subject", models.CharField(max_length=255, verbose_name="identité")),
                ("since", models.DateTimeField(auto_now_add=True, verbose_name="depuis le")),
                (
                    "agent",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={
                "verbose_name": "identité fédérée",
            },
        ),
        migrations.CreateModel(
            name="GroupRule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("group", models.CharField(max_length=100, verbose_name="groupe")),
                ("profile", models.CharField(max_length=4, verbose_name="profil")),
                ("territory", models.CharField(max_length=30, verbose_name="territoire")),
                ("service", models.CharField(blank=True, max_length=30, verbose_name="service")),
                ("requested_at", models.DateTimeField(auto_now_add=True)),
                ("validated_at", models.DateTimeField(null=True)),
                (
                    "requested_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="demandée par",
                    ),
                ),
                (
                    "validated_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="validée par",
                    ),
                ),
            ],
            options={
                "verbose_name": "correspondance",
                "ordering": ("group", "profile", "territory"),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("group", "profile", "territory", "service"), name="group_rule_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("validated_by__isnull", True),
                            ("requested_by__isnull", True),
                            models.Q(("validated_by", models.F("requested_by")), _negated=True),
                            _connector="OR",
                        ),
                        name="group_rule_two_persons",
                    ),
                ],
            },
        ),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(condition=models.Q(("state", "demande")), fields=["asked_at"], name="run_requested"),
        ),
        migrations.AddIndex(
            model_name="runrow",
            index=models.Index(fields=["run", "verdict", "username"], name="run_rows"),
        ),
        migrations.AddConstraint(
            model_name="subject",
            constraint=models.UniqueConstraint(fields=("issuer", "subject"), name="subject_once"),
        ),
        migrations.AddConstraint(
            model_name="subject",
            constraint=models.UniqueConstraint(fields=("issuer", "agent"), name="subject_of_agent"),
        ),
    ]
