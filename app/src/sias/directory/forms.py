"""Forms of the directory. No field asks the database."""

from django import forms

from sias.directory.models import GroupRule
from sias.habilitations.models import REASON_LEAST
from sias.habilitations.table import table


class RuleForm(forms.Form):
    """What the members of a group are habilitated as."""

    group = forms.CharField(
        label="Groupe",
        max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="Son nom (cn) dans l'annuaire.",
    )
    profile = forms.ChoiceField(label="Profil")
    territory = forms.CharField(
        label="Territoire",
        max_length=30,
        initial=GroupRule.OWN,
        help_text="* pour celui de l'unité de chaque agent, sinon un code : 57, UTAS-METZ, EPCI-…",
    )
    service = forms.CharField(
        label="Service",
        max_length=30,
        required=False,
        help_text="* pour l'unité de chaque agent, ou un code du dictionnaire des services.",
    )

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["profile"].choices = [(code, f"{code} : {one.name}") for code, one in table().profiles.items()]


class AllowForm(forms.Form):
    """Why more agents leave than usual."""

    motif = forms.CharField(
        label="Motif",
        min_length=REASON_LEAST,
        max_length=300,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Pourquoi tant d'agents perdent leur accès. Il reste inscrit au passage.",
        error_messages={
            "required": "Dites pourquoi.",
            "min_length": f"Dites-en plus : {REASON_LEAST} caractères au moins.",
        },
    )
