"""Forms of third parties. No field asks the database."""

from django import forms

from sias.thirdparties import bank


class ThirdPartyForm(forms.Form):
    """Identity and bank account."""

    name = forms.CharField(label="Nom ou raison sociale", max_length=150)
    siret = forms.CharField(
        label="SIRET", max_length=20, required=False, help_text="14 chiffres. Vide pour un particulier."
    )
    person = forms.CharField(
        label="Personne du Répertoire", max_length=12, required=False, help_text="N° de dossier, pour un particulier."
    )
    address = forms.CharField(label="Adresse", max_length=200, required=False)
    iban = forms.CharField(
        label="IBAN", max_length=42, required=False, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    version = forms.IntegerField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: object, editing: bool = False, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.editing = editing
        self.fields["iban"].help_text = (
            "Laissez vide pour garder l'IBAN enregistré." if editing else "FR et 25 caractères."
        )

    def clean_siret(self) -> str:
        """Check the key, and say what is wrong."""
        number = bank.clean(self.cleaned_data["siret"])
        if number and (wrong := bank.siret_problem(number)):
            raise forms.ValidationError(wrong)
        return number

    def clean_iban(self) -> str:
        """Check the keys, and say what is wrong."""
        number = bank.clean(self.cleaned_data["iban"])
        if not number and not self.editing:
            raise forms.ValidationError("Indiquez l'IBAN.")
        if number and (wrong := bank.iban_problem(number)):
            raise forms.ValidationError(wrong)
        return number

    def clean(self) -> dict:
        """An organisation has a SIRET, a private person a file."""
        data = super().clean()
        if not data.get("siret") and not data.get("person") and "siret" not in self.errors:
            self.add_error("siret", "Indiquez le SIRET, ou le n° de dossier d'un particulier.")
        return data


class DecisionForm(forms.Form):
    """What Finance says."""

    version = forms.IntegerField(widget=forms.HiddenInput)
    number = forms.CharField(label="Numéro de tiers des Finances", max_length=30, required=False)
    refusal = forms.CharField(label="Motif du refus", max_length=300, required=False)
