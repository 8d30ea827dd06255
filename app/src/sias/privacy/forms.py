"""Forms of the rights of persons. No field asks the database."""

from datetime import date, timedelta

from django import forms
from django.utils import timezone

from sias.platform.pages import date_field
from sias.privacy.models import RightsRequest

LONG = {"rows": 5, "wide": True}
OLDEST = timedelta(days=366)


class RequestForm(forms.Form):
    """A request."""

    kind = forms.ChoiceField(label="Droit exercé", choices=[("", "Choisir"), *RightsRequest.Kind.choices])
    received_on = date_field("Reçue le", help_text="Le mois de réponse compte de ce jour.")
    channel = forms.CharField(
        label="Reçue par", max_length=50, required=False, help_text="Courrier, courriel, guichet."
    )
    detail = forms.CharField(label="Demande", max_length=1000, required=False, widget=forms.Textarea(attrs=LONG))

    def clean_received_on(self) -> date:
        """Not tomorrow, not years ago."""
        day = self.cleaned_data["received_on"]
        if not timezone.localdate() - OLDEST <= day <= timezone.localdate():
            raise forms.ValidationError("Cette date est future ou vieille de plus d'un an.")
        return day

    def clean(self) -> dict:
        """A rectification says what is wrong."""
        data = super().clean()
        if data.get("kind") == RightsRequest.Kind.RECTIFICATION and not data.get("detail", "").strip():
            self.add_error("detail", "Dites ce qui est faux et ce qui est juste.")
        return data


class AnswerForm(forms.Form):
    """The answer."""

    version = forms.IntegerField(widget=forms.HiddenInput)
    answer = forms.CharField(label="Réponse à la personne", max_length=1000, widget=forms.Textarea(attrs=LONG))
