"""Forms of control. No field asks the database."""

from datetime import date

from django import forms
from django.utils import timezone

from sias.habilitations.models import LONGEST, REASON_LEAST, BreakGlass
from sias.habilitations.table import table
from sias.platform.pages import date_field


class AssignmentForm(forms.Form):
    """A profile asked for an agent."""

    agent = forms.CharField(
        label="Agent", max_length=150, widget=forms.TextInput(attrs={"autocomplete": "off"}), help_text="Identifiant."
    )
    profile = forms.ChoiceField(label="Profil")
    territory = forms.CharField(
        label="Territoire",
        max_length=30,
        initial="57",
        help_text="57 pour tout le département, UTAS-METZ, EPCI-…, ou un code commune.",
    )
    service = forms.CharField(
        label="Service", max_length=30, required=False, help_text="Code du dictionnaire des services."
    )
    since = date_field("Du")
    until = date_field("Au", help_text="Un an au plus ; la revue prolonge.")
    reason = forms.CharField(label="Motif", max_length=300)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["profile"].choices = [(code, f"{code} : {one.name}") for code, one in table().profiles.items()]

    def clean(self) -> dict:
        """Dates in order, a year at most."""
        since, until = self.cleaned_data.get("since"), self.cleaned_data.get("until")
        if isinstance(since, date) and isinstance(until, date):
            if until <= since or until <= timezone.localdate():
                self.add_error("until", "La fin doit suivre le début, et être à venir.")
            elif until - since > LONGEST:
                self.add_error("until", "Un an au plus : la revue des habilitations prolonge.")
        return self.cleaned_data


class VerdictForm(forms.Form):
    """What an examination concludes."""

    verdict = forms.ChoiceField(choices=BreakGlass.Verdict.choices)
    comment = forms.CharField(max_length=500, required=False)


class ConfidentialForm(forms.Form):
    """Why a file is confidential, and who opens it all the same."""

    motif = forms.CharField(
        label="Motif",
        min_length=REASON_LEAST,
        max_length=300,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Pourquoi cette fiche doit être fermée, ou rouverte. Il reste dans l'historique.",
        error_messages={
            "required": "Fermer ou rouvrir une fiche demande un motif.",
            "min_length": f"Dites-en plus : {REASON_LEAST} caractères au moins.",
        },
    )
    agents = forms.CharField(
        label="Agents qui gardent l'accès",
        max_length=3000,
        required=False,
        widget=forms.Textarea(attrs={"rows": 4, "autocomplete": "off", "spellcheck": "false"}),
        help_text="Un identifiant ou un nom par ligne.",
    )
    foyer = forms.BooleanField(label="Faire de même pour tous les membres du ménage", required=False)
