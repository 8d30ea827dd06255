"""Forms of the Répertoire. No field asks the database: the form can be shown again while there is none."""

import re
from datetime import date

from django import forms
from django.utils import timezone

from sias.repertoire import nir
from sias.repertoire.models import Sex
from sias.socle import geography
from sias.socle.text import compact


class SearchForm(forms.Form):
    """The fields of the search."""

    q = forms.CharField(label="Nom, prénom, NIR, téléphone, dossier ou ménage", required=False, max_length=200)
    naissance = forms.CharField(label="Naissance", required=False, max_length=10)
    commune = forms.CharField(label="Commune", required=False, max_length=100)
    adresse = forms.CharField(label="Adresse", required=False, max_length=100)


class PersonForm(forms.Form):
    """Identity and contact of a person."""

    birth_name = forms.CharField(label="Nom de naissance", max_length=80)
    usage_name = forms.CharField(
        label="Nom d'usage", max_length=80, required=False, help_text="S'il diffère du nom de naissance."
    )
    first_names = forms.CharField(label="Prénoms", max_length=120, help_text="Le prénom usuel d'abord.")
    sex = forms.ChoiceField(label="Sexe", choices=[("", "Choisir"), *Sex.choices])
    birth_date = forms.DateField(
        label="Date de naissance",
        input_formats=["%d/%m/%Y", "%Y-%m-%d"],
        help_text="jj/mm/aaaa",
        widget=forms.DateInput(format="%d/%m/%Y", attrs={"placeholder": "jj/mm/aaaa", "inputmode": "numeric"}),
        error_messages={"invalid": "Écrivez la date comme 31/12/1975."},
    )
    birth_place = forms.CharField(label="Lieu de naissance", max_length=100, required=False)
    nir = forms.CharField(
        label="NIR",
        max_length=25,
        required=False,
        help_text="13 caractères et la clé. Laissez vide s'il n'est pas connu.",
    )
    address = forms.CharField(label="Adresse", max_length=200, required=False)
    postal_code = forms.CharField(label="Code postal", max_length=5, required=False)
    commune = forms.CharField(
        label="Commune", max_length=100, required=False, widget=forms.TextInput(attrs={"list": "communes"})
    )
    phone = forms.CharField(
        label="Téléphone", max_length=20, required=False, widget=forms.TextInput(attrs={"inputmode": "tel"})
    )
    email = forms.EmailField(label="Courriel", required=False)
    household = forms.CharField(
        label="Ménage existant",
        max_length=10,
        required=False,
        help_text="Numéro du ménage à rejoindre (F suivi de 8 chiffres). Vide : un nouveau ménage est créé.",
    )
    version = forms.IntegerField(required=False, widget=forms.HiddenInput)
    base = forms.CharField(
        max_length=5000, required=False, widget=forms.HiddenInput
    )  # JSON: the fields as they were shown

    use_required_attribute = True

    def __init__(self, *args: object, editing: bool = False, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        if editing:
            del self.fields["household"]
            self.fields["nir"].help_text = "Laissez vide pour garder le numéro enregistré."
        else:
            del self.fields["version"], self.fields["base"]

    def _name(self, field: str) -> str:
        value = re.sub(r"\s+", " ", self.cleaned_data[field]).strip()
        if value and not compact(value):
            raise forms.ValidationError("Un nom contient au moins une lettre.")
        return value.upper() if field != "first_names" else value

    def clean_birth_name(self) -> str:
        """Names are kept in capitals, as registries write them."""
        return self._name("birth_name")

    def clean_usage_name(self) -> str:
        """As the birth name."""
        return self._name("usage_name")

    def clean_first_names(self) -> str:
        """Spaces are made single."""
        return self._name("first_names")

    def clean_birth_date(self) -> date:
        """Refuse a date that nobody alive has."""
        born = self.cleaned_data["birth_date"]
        if not date(1900, 1, 1) <= born <= timezone.localdate():
            raise forms.ValidationError("La date de naissance doit être entre 1900 et aujourd'hui.")
        return born

    def clean_nir(self) -> str:
        """Check shape and key, and say what is wrong."""
        number = nir.clean(self.cleaned_data["nir"])
        if number and (wrong := nir.problem(number)):
            raise forms.ValidationError(wrong)
        return number

    def clean_commune(self) -> str:
        """Turn a name into an INSEE code."""
        text = self.cleaned_data["commune"]
        if not text:
            return ""
        place = geography.find(text)
        if place is None:
            raise forms.ValidationError("Cette commune n'est pas en Moselle. Choisissez-la dans la liste.")
        return place.code

    def clean_phone(self) -> str:
        """Keep digits only, French notation."""
        phone = re.sub(r"[\s.\-()]", "", self.cleaned_data["phone"])
        phone = re.sub(r"^(\+33|0033)", "0", phone)
        if phone and not re.fullmatch(r"0[1-9]\d{8}", phone):
            raise forms.ValidationError("Un numéro de téléphone compte dix chiffres : 03 87 00 00 00.")
        return phone

    def clean_postal_code(self) -> str:
        """Five digits."""
        code = self.cleaned_data["postal_code"].strip()
        if code and not re.fullmatch(r"\d{5}", code):
            raise forms.ValidationError("Un code postal compte cinq chiffres.")
        return code
