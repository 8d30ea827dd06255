"""The first household's situation, and a flash evaluation that was closed."""

from sias.evaluations import questionnaires, services
from sias.evaluations.models import Evaluation
from sias.platform.demonstration import Scene, demonstration

SITUATION = {
    "hebergement_actuel": ["locataire-du-parc-privé"],
    "menace_expulsion": ["oui"],
    "couverture_maladie": ["complémentaire-santé-solidaire"],
    "dalo": ["déposé"],
}
FLASH = {
    "motif": ["Trois mois d'impayés d'énergie, risque de coupure."],
    "hebergement_actuel": ["locataire-du-parc-privé"],
    "urgence": ["non"],
    "besoins": ["ouverture-de-droits"],
}


@demonstration(order=20)
def make(scene: Scene) -> None:
    """Answers that are known, and those of a first meeting."""
    household = scene.persons[0].memberships.get(until=None).household
    _answer(services.situation(household, scene.agent), SITUATION, scene)
    met = Evaluation.objects.create(
        household=household, questionnaire=services.latest("flash"), started_by=scene.colleague
    )
    _answer(met, FLASH, scene)
    services.close(met, scene.colleague)


def _answer(evaluation: Evaluation, typed: dict[str, list[str]], scene: Scene) -> None:
    questions = questionnaires.questions(evaluation.questionnaire.definition)
    answers = {code: (None, questionnaires.read(questions[code], values)) for code, values in typed.items()}
    services.save(evaluation, answers, scene.agent)
