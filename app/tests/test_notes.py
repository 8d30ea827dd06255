"""The one note: type, visibility, pinned alert; it follows its person, and history shows no more than it."""

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone
from sias.notes.duties import purge_drafts
from sias.notes.models import Draft, Note

from tests.conftest import make_agent, sign_in
from tests.test_households import move_form, since
from tests.test_persons import text


@pytest.fixture
def place(person):
    return person.memberships.get().household


def note_form(**changes: object) -> dict:
    return {
        "kind": "note",
        "visibility": "partagee",
        "person": "",
        "happened_on": f"{timezone.localdate():%d/%m/%Y}",
        "body": f"Reçue ce jour {uuid.uuid4().hex}",
        "pinned_until": "",
        "idempotency_key": uuid.uuid4().hex,
    } | changes


def write(client, place, **changes: object) -> Note:
    form = note_form(**changes)
    assert client.post(f"{place.get_absolute_url()}notes/nouvelle/", form).status_code == 302
    return Note.objects.get(body=form["body"])


def colleague(service: str):
    name = uuid.uuid4().hex[:10]
    agent = make_agent(name, "TS", service=service)
    return sign_in(agent.username)


@pytest.mark.parametrize(
    ("visibility", "same_service", "elsewhere"),
    [("partagee", True, True), ("service", True, False), ("personnelle", False, False)],
)
def test_a_note_is_read_by_whom_its_visibility_says_in_the_file_and_in_history(
    client, place, visibility, same_service, elsewhere
):
    note = write(client, place, visibility=visibility)
    for reader, may in ((client, True), (colleague("UTAS"), same_service), (colleague("PMI"), elsewhere)):
        for tab in ("notes/", "suivi/"):
            assert (note.body in text(reader.get(f"{place.get_absolute_url()}{tab}"))) is may, tab
        assert (reader.get(f"/notes/{note.pk}/modifier/").status_code == 200) is may


def test_a_note_that_was_private_stays_so_in_history(client, place):
    note = write(client, place, visibility="personnelle")
    secret = note.body
    form = note_form(visibility="partagee", body="Résumé partageable", version=note.version)
    assert client.post(f"/notes/{note.pk}/modifier/", form).status_code == 302
    assert secret not in text(colleague("UTAS").get(f"{place.get_absolute_url()}suivi/"))
    assert secret in text(client.get(f"{place.get_absolute_url()}suivi/"))


def test_an_alert_stands_above_every_tab_until_its_day(client, place):
    alert = write(client, place, kind="alerte")
    assert alert.pinned_until == timezone.localdate() + timedelta(days=30)
    for tab in ("", "identite/", "situation/"):
        assert alert.body in text(client.get(f"{place.get_absolute_url()}{tab}"))
    Note.objects.filter(pk=alert.pk).update(pinned_until=timezone.localdate() - timedelta(days=1))
    assert alert.body not in text(client.get(place.get_absolute_url()))


def test_a_note_about_a_person_follows_to_the_new_household_and_back(client, person, place):
    since(person, timezone.localdate() - timedelta(days=100))
    about, general = write(client, place, person=person.pk), write(client, place)
    response = client.post(f"{place.get_absolute_url()}deplacer/", move_form(person))
    about.refresh_from_db()
    general.refresh_from_db()
    assert about.household.get_absolute_url() == response["Location"]
    assert general.household == place
    made = about.household.arrivals.get()
    client.post(f"/changements/{made.pk}/annuler/", {"idempotency_key": uuid.uuid4().hex})
    about.refresh_from_db()
    assert about.household == place


def test_the_second_of_two_writers_is_shown_both_texts(client, place):
    note = write(client, place)
    first = note_form(version=note.version, body="Version de Dominique")
    assert sign_in("autre").post(f"/notes/{note.pk}/modifier/", first).status_code == 302
    response = client.post(f"/notes/{note.pk}/modifier/", note_form(version=note.version, body="Version d Alex"))
    page = text(response)
    assert response.status_code == 409
    assert "Version de Dominique" in page
    assert page.count("Version d Alex") == 2
    again = note_form(version=note.version + 1, body="Version des deux")
    assert client.post(f"/notes/{note.pk}/modifier/", again).status_code == 302


def test_only_its_author_changes_who_may_read_a_note(client, place):
    note = write(client, place)
    form = note_form(version=note.version, visibility="service")
    response = sign_in("autre").post(f"/notes/{note.pk}/modifier/", form)
    assert response.status_code == 422
    assert "Seul l'auteur" in text(response).replace("&#x27;", "'")


def test_a_withdrawn_note_is_struck_through_with_its_reason(client, place):
    note = write(client, place)
    empty = client.post(f"/notes/{note.pk}/retirer/", {"motif": " ", "idempotency_key": uuid.uuid4().hex})
    assert empty.status_code == 422
    form = {"motif": "Mauvais ménage", "idempotency_key": uuid.uuid4().hex}
    assert client.post(f"/notes/{note.pk}/retirer/", form).status_code == 302
    page = text(client.get(f"{place.get_absolute_url()}notes/"))
    assert f"<s>{note.body}</s>" in page
    assert "Mauvais ménage" in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"happened_on": "30/02/2026"}, "Cette date n'existe pas"),
        ({"happened_on": "01/01/2199"}, "dans le futur"),
        ({"body": "  "}, "obligatoire"),
        ({"pinned_until": "01/01/2199"}, "un an au plus"),
        ({"kind": "roman"}, "choix valide"),
        ({"person": "999999999"}, "choix valide"),
    ],
)
def test_a_refused_note_says_why_and_keeps_what_was_typed(client, place, changes, message):
    form = note_form() | changes
    response = client.post(f"{place.get_absolute_url()}notes/nouvelle/", form)
    page = text(response).replace("&#x27;", "'")
    assert response.status_code == 422
    assert message in page
    assert form["body"].strip() in page
    assert not Note.objects.filter(household=place).exists()


# --- drafts ----------------------------------------------------------------------------------------------------------
def keep(client, place, **changes: object):
    return client.post(f"{place.get_absolute_url()}notes/brouillon/", note_form(**changes))


def test_what_is_typed_is_kept_for_its_author_alone_until_the_note_is_saved(client, place):
    words = f"Texte interrompu {uuid.uuid4().hex}"
    answer = keep(client, place, body=words, kind="entretien")
    assert answer.status_code == 200
    assert answer.json()["saved"].startswith("Toutes les informations sont sauvegardées. Brouillon gardé le")
    page = client.get(f"{place.get_absolute_url()}notes/nouvelle/")
    assert words in text(page)
    assert page.context["form"]["kind"].value() == "entretien"
    assert "Voici votre brouillon" in text(page)
    other = sign_in("autre")
    assert words not in text(other.get(f"{place.get_absolute_url()}notes/nouvelle/"))
    assert words not in text(other.get(f"{place.get_absolute_url()}notes/"))
    write(client, place, body=words)
    assert "Voici votre brouillon" not in text(client.get(f"{place.get_absolute_url()}notes/nouvelle/"))


def test_a_draft_of_an_edit_does_not_touch_the_note_and_still_sees_who_edited_meanwhile(client, place):
    note = write(client, place)
    keep(client, place, body="Retouche à finir", note=note.pk, version=note.version)
    note.refresh_from_db()
    assert "Retouche" not in note.body
    edit = f"/notes/{note.pk}/modifier/"
    assert sign_in("autre").post(edit, note_form(body="Par l'autre", version=1)).status_code == 302
    page = client.get(edit)
    assert "Retouche à finir" in text(page)
    assert str(page.context["form"]["version"].value()) == "1"
    assert client.post(edit, note_form(body="Retouche à finir", version=1)).status_code == 409


def test_a_draft_is_thrown_away(client, place):
    keep(client, place, body="À jeter")
    answer = keep(client, place, action="jeter")
    assert answer["Location"].endswith("/notes/nouvelle/")
    assert "À jeter" not in text(client.get(answer["Location"]))


def test_a_draft_that_is_too_long_says_so_and_keeps_the_last_one(client, place):
    keep(client, place, body="Le dernier bon")
    answer = keep(client, place, body="x" * 20_001)
    assert answer.status_code == 422
    assert "20000 caractères" in answer.json()["message"]
    assert "Le dernier bon" in text(client.get(f"{place.get_absolute_url()}notes/nouvelle/"))


def test_a_draft_of_a_note_that_one_may_not_read_or_of_another_household_is_refused(client, place):
    private = write(client, place, visibility="personnelle")
    assert keep(sign_in("autre"), place, note=private.pk).status_code == 404
    assert keep(sign_in("autre"), place, note="abc").status_code == 404
    outsider = make_agent(uuid.uuid4().hex[:10], "TS", territory="UTAS-THIONVILLE")
    assert keep(sign_in(outsider.username), place).status_code == 403


def test_old_drafts_are_forgotten(client, place):
    keep(client, place, body="Ancien")
    Draft.objects.filter(household=place).update(saved_at=timezone.now() - timedelta(days=8))
    assert "1 brouillons" in purge_drafts()[0]
    assert not Draft.objects.filter(household=place).exists()
