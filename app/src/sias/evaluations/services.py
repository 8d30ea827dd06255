"""Saving answers: each by itself, and never over what someone else saved meanwhile."""

from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from sias.evaluations import questionnaires
from sias.evaluations.models import Answer, Evaluation, Questionnaire
from sias.repertoire.models import Household


class ClosedError(Exception):
    """The evaluation is closed: its answers stay as they are."""


@dataclass
class Conflict:
    """Someone else saved another answer since the page was opened."""

    question: dict
    mine: object
    theirs: object
    by: object
    at: object


@dataclass
class Outcome:
    """What became of the answers of a page."""

    saved: list[str]
    conflicts: list[Conflict]


def latest(code: str) -> Questionnaire:
    """Return the newest version of a questionnaire."""
    return Questionnaire.objects.filter(code=code).order_by("-version")[0]


@transaction.atomic
def situation(household: Household, agent: object) -> Evaluation:
    """Return the household's situation, begun now if it has none. Two who begin at once get the same."""
    Household.objects.using("default").select_for_update().get(pk=household.pk)
    found = Evaluation.objects.using("default").filter(household=household, living=True).first()
    return found or Evaluation.objects.create(
        household=household, questionnaire=latest("situation"), living=True, started_by=agent
    )


@transaction.atomic
def save(evaluation: Evaluation, typed: dict[str, tuple[object, object]], agent: object) -> Outcome:
    """Save answers `{question: (what the page was opened with, what is wanted)}`, those in conflict excepted."""
    locked = Evaluation.objects.using("default").select_for_update().get(pk=evaluation.pk)
    if locked.closed_at is not None:
        raise ClosedError
    questions = questionnaires.questions(evaluation.questionnaire.definition)
    there = {
        answer.question: answer
        for answer in Answer.objects.using("default")
        .filter(evaluation=locked, question__in=typed)
        .select_related("updated_by")
    }
    outcome = Outcome([], [])
    for code, (base, mine) in typed.items():
        answer = there.get(code)
        theirs = answer.value if answer else None
        if mine in (theirs, base):
            continue
        if theirs != base:
            outcome.conflicts.append(
                Conflict(questions[code], mine, theirs, answer and answer.updated_by, answer and answer.updated_at)
            )
            continue
        if mine is None:
            answer.delete()
        elif answer is None:
            Answer.objects.create(
                evaluation=locked, household_id=locked.household_id, question=code, value=mine, updated_by=agent
            )
        else:
            answer.value, answer.updated_by = mine, agent
            answer.save(update_fields=["value", "updated_by", "updated_at"])
        outcome.saved.append(code)
    return outcome


def close(evaluation: Evaluation, agent: object) -> None:
    """End an evaluation: it can be read and compared, not changed."""
    Evaluation.objects.filter(pk=evaluation.pk, closed_at=None, living=False).update(
        closed_at=timezone.now(), closed_by=agent
    )
