"""Forms of the reception. No field asks the database."""

from datetime import datetime, timedelta

from django import forms
from django.utils import timezone

from sias.platform.pages import date_field
from sias.reception.models import Contact

LONG = {"rows": 4, "wide": True}


class ContactForm(forms.Form):
    """A contact."""

    channel = forms.ChoiceField(label="Canal", choices=Contact.Channel.choices)
    subject = forms.CharField(label="Objet", max_length=100)
    summary = forms.CharField(
        label="Suite donnée",
        max_length=1000,
        required=False,
        widget=forms.Textarea(attrs=LONG),
        help_text="Des faits utiles au suivi, sans jugement : la personne peut lire ce qui est écrit d'elle.",
    )


class AppointmentForm(forms.Form):
    """An appointment."""

    subject = forms.CharField(label="Objet", max_length=100)
    agent = forms.CharField(label="Avec", max_length=150, help_text="Identifiant ou nom d'un agent.")
    day = date_field("Jour")
    hour = forms.TimeField(
        label="Heure",
        input_formats=["%H:%M", "%Hh%M", "%Hh"],
        widget=forms.TimeInput(format="%H:%M", attrs={"placeholder": "14:30"}),
        error_messages={"invalid": "Écrivez l'heure comme 14:30."},
    )
    minutes = forms.IntegerField(label="Durée en minutes", min_value=5, max_value=480, initial=45)
    place = forms.CharField(label="Lieu", max_length=100, required=False)

    def clean(self) -> dict:
        """An appointment is given for the future."""
        data = super().clean()
        if data.get("day") and data.get("hour"):
            try:
                starts = timezone.make_aware(datetime.combine(data["day"], data["hour"]))
            except OverflowError:
                starts = None
            if starts is None or starts.year > timezone.now().year + 5:
                self.add_error("day", "Cette date est trop lointaine : cinq ans au plus.")
            elif starts < timezone.now():
                self.add_error("day", "Ce moment est déjà passé.")
            elif data.get("minutes"):
                data["starts_at"], data["ends_at"] = starts, starts + timedelta(minutes=data["minutes"])
        return data


class ReferralForm(forms.Form):
    """A referral."""

    to_service = forms.CharField(label="Vers le service", max_length=100)
    reason = forms.CharField(label="Motif", max_length=500, widget=forms.Textarea(attrs=LONG))
    urgent = forms.BooleanField(label="Urgente", required=False)


class AnswerForm(forms.Form):
    """The answer of the service."""

    answer = forms.CharField(label="Réponse", max_length=500, required=False, widget=forms.Textarea(attrs=LONG))
