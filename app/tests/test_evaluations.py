"""Evaluations: answers save themselves, nobody overwrites anybody, versions keep their meaning, two can be compared."""

import json
import uuid

import psycopg
import pytest
from sias.evaluations import questionnaires
from sias.evaluations.models import Answer, Evaluation, Questionnaire
from sias.history.models import Change

from tests.conftest import sign_in
from tests.test_persons import text


@pytest.fixture
def place(person):
    return person.memberships.get().household


def answer(code: str, value: object, base: object = None, **more: object) -> dict:
    values = value if isinstance(value, list) else [value]
    return {
        f"reponse-{code}": values,
        f"base-{code}": json.dumps(base),
        "idempotency_key": uuid.uuid4().hex,
        **more,
    }


def save(client, place, *arguments, **more):
    return client.post(f"{place.get_absolute_url()}situation/reponses/", answer(*arguments), **more)


ALONE = {"headers": {"X-Requested-With": "fetch"}}


def test_an_answer_saves_itself_and_says_so(client, place):
    response = save(client, place, "ressources", "1 234,5", **ALONE)
    assert response.status_code == 200
    assert response.json()["saved"].startswith("Toutes les informations sont sauvegardées. Dernière mise à jour le")
    assert response.json()["saved"].endswith("par Alex Agent.")
    assert response.json()["base"] == {"ressources": '"1234.50"'}
    assert 'value="1234,50"' in text(client.get(f"{place.get_absolute_url()}situation/"))


def test_two_who_answer_different_questions_do_not_meet(client, place):
    assert save(client, place, "permis", "permis-et-véhicule", **ALONE).status_code == 200
    assert save(sign_in("autre"), place, "dettes", "10", **ALONE).status_code == 200
    evaluation = Evaluation.objects.get(household=place)
    assert set(evaluation.answers.values_list("question", flat=True)) == {"permis", "dettes"}


def test_the_second_of_two_who_answer_one_question_chooses(client, place):
    assert save(sign_in("autre"), place, "qualification", "Soudeur", **ALONE).status_code == 200
    response = save(client, place, "qualification", "Maçon", **ALONE)
    assert response.status_code == 409
    told = response.json()
    assert (told["theirs"], told["mine"]) == ("Soudeur", "Maçon")
    assert "Dominique Autre a répondu autre chose" in told["message"]
    assert Answer.objects.get(household=place, question="qualification").value == "Soudeur"
    assert save(client, place, "qualification", "Maçon", "Soudeur", **ALONE).status_code == 200
    assert Answer.objects.get(household=place, question="qualification").value == "Maçon"


def test_without_javascript_the_merge_page_shows_both_and_keeps_what_was_typed(client, place):
    save(sign_in("autre"), place, "qualification", "Soudeur")
    save(sign_in("autre"), place, "numero_unique", "57-1")
    form = answer("qualification", "Maçon") | answer("numero_unique", "") | answer("dettes", "7")
    response = client.post(f"{place.get_absolute_url()}situation/reponses/", form)
    page = text(response).replace("&#x27;", "'").replace("&quot;", '"')
    assert response.status_code == 409
    assert "Votre saisie n'est pas encore enregistrée." in page
    assert "<td>Maçon</td>" in page
    assert 'value="Maçon"' in page
    assert 'name="base-qualification" value=""Soudeur""' in page
    assert 'value="57-1"' in page  # not touched here: shown as the other one saved it
    assert 'value="7"' in page
    again = (
        answer("qualification", "Maçon", "Soudeur") | answer("numero_unique", "57-1", "57-1") | answer("dettes", "7")
    )
    assert client.post(f"{place.get_absolute_url()}situation/reponses/", again).status_code == 302
    found = dict(Answer.objects.filter(household=place).values_list("question", "value"))
    assert found == {"qualification": "Maçon", "numero_unique": "57-1", "dettes": "7.00"}


@pytest.mark.parametrize(
    ("code", "value", "message"),
    [
        ("hebergement_depuis", "31/02/2026", "n'est pas une date"),
        ("ressources", "beaucoup", "n'est pas un montant"),
        ("ressources", "-3", "positif"),
        ("permis", "avion", "n'est pas une réponse proposée"),
        ("qualification", "x" * 201, "200 au plus"),
    ],
)
def test_an_impossible_answer_is_explained_and_kept(client, place, code, value, message):
    alone = save(client, place, code, value, **ALONE)
    assert alone.status_code == 422
    assert message in alone.json()["message"]
    response = save(client, place, code, value)
    assert response.status_code == 422
    page = text(response).replace("&#x27;", "'")
    assert message in page
    assert code == "permis" or f'value="{value}"' in page
    assert not Answer.objects.filter(household=place).exists()


def test_an_answer_can_be_taken_back_and_history_tells_both(client, place):
    save(client, place, "animaux_inconnus", "x")
    save(client, place, "qualification", "Soudeur")
    assert save(client, place, "qualification", "", "Soudeur").status_code == 302
    assert not Answer.objects.filter(household=place).exists()
    changes = Change.objects.filter(table_name="evaluations_answer", household_id=place.pk).order_by("id")
    assert [change.operation for change in changes] == ["I", "D"]
    assert "Soudeur" in text(client.get(f"{place.get_absolute_url()}suivi/"))


def begin(client, place, code: str) -> Evaluation:
    form = {"questionnaire": code, "idempotency_key": uuid.uuid4().hex}
    response = client.post(f"{place.get_absolute_url()}evaluations/nouvelle/", form)
    assert response.status_code == 302
    return Evaluation.objects.get(pk=response["Location"].split("/")[-2])


def fill(client, evaluation: Evaluation, **answers: object):
    form = {}
    for code, value in answers.items():
        form |= answer(code, value)
    return client.post(f"/evaluations/{evaluation.pk}/reponses/", form)


def test_two_evaluations_are_compared(client, place):
    first, second = begin(client, place, "flash"), begin(client, place, "approfondie")
    fill(client, first, hebergement_actuel="hôtel", motif="Expulsion")
    fill(client, second, hebergement_actuel="à-la-rue", synthese="À revoir")
    page = text(client.get(f"{place.get_absolute_url()}evaluations/comparer/", {"a": second.pk, "b": first.pk}))
    assert page.index("Hôtel") < page.index("À la rue")
    assert page.count("changé") == 1
    assert page.count("question absente de ce questionnaire") >= 2
    assert "Expulsion" in text(client.get(place.get_absolute_url()))  # the flash evaluation is on the first page
    response = client.get(f"{place.get_absolute_url()}evaluations/comparer/", {"a": first.pk, "b": first.pk})
    assert response.status_code == 302


def test_a_closed_evaluation_is_read_and_not_changed(client, place):
    made = begin(client, place, "flash")
    assert fill(client, made, motif="Expulsion").status_code == 302
    assert client.post(f"/evaluations/{made.pk}/clore/", {"idempotency_key": uuid.uuid4().hex}).status_code == 302
    assert "Expulsion" in text(client.get(made.get_absolute_url()))
    response = fill(client, made, motif="Autre")
    assert response.status_code == 409
    assert "close pendant que vous la remplissiez" in text(response)


def test_a_published_questionnaire_never_changes(cluster):
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation):
        cluster.sql("UPDATE evaluations_questionnaire SET title = 'x'")


def test_the_files_of_this_release_are_published_as_they_are():
    published = {(row.code, row.version): row.digest for row in Questionnaire.objects.all()}
    assert {(d["code"], d["version"]): digest for d, digest in questionnaires.files()} == published
    for definition, _digest in questionnaires.files():
        found = [question["code"] for section in definition["sections"] for question in section["questions"]]
        assert len(found) == len(set(found))
        assert {q["type"] for q in questionnaires.questions(definition).values()} <= {
            "texte", "long", "date", "montant", "choix", "plusieurs", "ouinon",
        }  # fmt: skip
