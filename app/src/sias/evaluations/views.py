"""Situation, evaluations, comparison. Answers save themselves; the button does the same without JavaScript."""

import json

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from sias.evaluations import questionnaires, services
from sias.evaluations.models import Answer, Evaluation, Questionnaire
from sias.habilitations.rights import requires
from sias.history import words
from sias.history.models import Change
from sias.households import tabs
from sias.households.access import open_household
from sias.households.views import follows_merges, frame
from sias.platform.failover import read_only
from sias.platform.idempotency import idempotent, key_of, new_key
from sias.repertoire.models import Household

EVALUATIONS = ("flash", "approfondie")


def _text(question: dict, value: object) -> str:
    """Return what stands in the field: as people type it."""
    return (value or "").replace(".", ",") if question["type"] == "montant" else questionnaires.show(question, value)


def _sections(definition: dict, answers: dict[str, object], typed: dict[str, str] | None = None) -> list[dict]:
    """Return the questions with their answers, as the page shows them."""
    sections = []
    for section in definition["sections"]:
        shown = []
        for question in section["questions"]:
            code, value = question["code"], answers.get(question["code"])
            shown.append(
                question
                | {
                    "value": value,
                    "text": (typed or {}).get(code) or _text(question, value),
                    "base": json.dumps(value, ensure_ascii=False),
                    "options": questionnaires.choices(question)
                    if question["type"] in {"choix", "plusieurs", "ouinon"}
                    else [],
                }
            )
        sections.append(section | {"questions": shown})
    return sections


def _answers(evaluation: Evaluation | None) -> dict[str, object]:
    return {answer.question: answer.value for answer in evaluation.answers.all()} if evaluation else {}


def _page(evaluation: Evaluation | None, questionnaire: Questionnaire, action: str) -> dict:
    return {
        "evaluation": evaluation,
        "sections": _sections(questionnaire.definition, _answers(evaluation)),
        "editable": evaluation is None or evaluation.closed_at is None,
        "save_to": action,
        "idempotency_key": new_key(),
    }


@tabs.tab("situation", "Situation du ménage", "evaluations/situation.html", 20)
def situation_tab(_request: HttpRequest, household: Household) -> dict:
    """What is known of the household now: one questionnaire that is never closed."""
    found = Evaluation.objects.filter(household=household, living=True).select_related("questionnaire").first()
    questionnaire = found.questionnaire if found else services.latest("situation")
    return _page(found, questionnaire, f"/foyers/{household.pk}/situation/reponses/")


@tabs.tab("evaluations", "Évaluations", "evaluations/list.html", 30)
def list_tab(_request: HttpRequest, household: Household) -> dict:
    """All of them, what may be begun, and the choice of two to compare."""
    return {
        "evaluations": Evaluation.objects.filter(household=household, living=False).select_related(
            "questionnaire", "started_by", "closed_by"
        ),
        "kinds": [services.latest(code) for code in EVALUATIONS],
        "idempotency_key": new_key(),
    }


@tabs.section("Évaluation flash", "evaluations/section.html", 10)
def flash_section(_request: HttpRequest, household: Household) -> dict:
    """The last flash evaluation: what must be known first."""
    found = (
        Evaluation.objects.filter(household=household, questionnaire__code="flash", living=False)
        .select_related("questionnaire")
        .first()
    )
    shown = []
    if found:
        answers = _answers(found)
        shown = [
            (question["label"], questionnaires.show(question, answers[code]))
            for code, question in questionnaires.questions(found.questionnaire.definition).items()
            if answers.get(code)
        ]
    return {"evaluation": found, "shown": shown, "household": household, "idempotency_key": new_key()}


def _told(evaluation: Evaluation | None) -> list[tuple[str, list]]:
    """Return the sections that have answers, in words."""
    answers = _answers(evaluation)
    sections = evaluation.questionnaire.definition["sections"] if evaluation else []
    told = [
        (
            section["title"],
            [
                (question["label"], questionnaires.show(question, answers[question["code"]]))
                for question in section["questions"]
                if answers.get(question["code"])
            ],
        )
        for section in sections
    ]
    return [(title, rows) for title, rows in told if rows]


@tabs.sheet("Situation du ménage", "evaluations/sheet.html", 10)
def situation_sheet(_request: HttpRequest, household: Household) -> dict:
    """The situation, as far as it is known."""
    found = Evaluation.objects.filter(household=household, living=True).select_related("questionnaire").first()
    return {"sections": _told(found)}


@tabs.sheet("Dernière évaluation flash", "evaluations/sheet.html", 20)
def flash_sheet(_request: HttpRequest, household: Household) -> dict | None:
    """The last flash evaluation, if there is one."""
    found = (
        Evaluation.objects.filter(household=household, questionnaire__code="flash", living=False)
        .select_related("questionnaire")
        .first()
    )
    return {"sections": _told(found)} if found else None


def _find(request: HttpRequest, identity: int) -> Evaluation:
    rows = Evaluation.objects.using("default") if request.method == "POST" else Evaluation.objects
    found = get_object_or_404(rows.select_related("questionnaire", "household", "started_by", "closed_by"), pk=identity)
    open_household(request, found.household_id, "modifier" if request.method == "POST" else "lire")
    return found


@requires("repertoire", "lire")
@read_only
@require_safe
def evaluation(request: HttpRequest, identity: int) -> HttpResponse:
    """An evaluation, to fill or to read."""
    found = _find(request, identity)
    context = frame(request, found.household, "evaluations") | _page(
        found, found.questionnaire, f"/evaluations/{found.pk}/reponses/"
    )
    return render(request, "evaluations/evaluation.html", context)


@requires("repertoire", "modifier")
@require_POST
@idempotent
def begin(request: HttpRequest, identity: int) -> HttpResponse:
    """Begin an evaluation with the newest version of its questionnaire."""
    household = open_household(request, identity, "modifier")
    code = request.POST.get("questionnaire", "")
    if code not in EVALUATIONS:
        raise Http404
    made = Evaluation.objects.create(household=household, questionnaire=services.latest(code), started_by=request.user)
    return redirect(made)


@requires("repertoire", "modifier")
@require_POST
@idempotent
def close(request: HttpRequest, identity: int) -> HttpResponse:
    """End an evaluation."""
    found = _find(request, identity)
    services.close(found, request.user)
    messages.success(request, f"{found.questionnaire.title} close : elle se lit et se compare, elle ne change plus.")
    return redirect(found)


@requires("repertoire", "modifier")
@require_POST
@idempotent
def save(request: HttpRequest, identity: int) -> HttpResponse:
    """Save answers of an evaluation."""
    return _save(request, _find(request, identity))


@follows_merges
@requires("repertoire", "modifier")
@require_POST
@idempotent
def save_situation(request: HttpRequest, identity: int) -> HttpResponse:
    """Save answers about the situation of a household."""
    household = open_household(request, identity, "modifier")
    found = services.situation(household, request.user)
    return _save(
        request, Evaluation.objects.using("default").select_related("questionnaire", "household").get(pk=found.pk)
    )


def _save(request: HttpRequest, found: Evaluation) -> HttpResponse:
    """Save what was posted: fields `reponse-<code>`, and `base-<code>` with what the page was opened with."""
    alone = request.headers.get("X-Requested-With") == "fetch"
    questions = questionnaires.questions(found.questionnaire.definition)
    wanted, wrong, typed = {}, {}, {}
    for code, question in questions.items():
        if f"base-{code}" not in request.POST:
            continue
        values = request.POST.getlist(f"reponse-{code}")
        typed[code] = values[0] if values else ""
        try:
            wanted[code] = (json.loads(request.POST[f"base-{code}"]), questionnaires.read(question, values))
        except ValueError as error:
            wrong[code] = str(error) if not isinstance(error, json.JSONDecodeError) else "Rechargez la page."
    outcome = services.Outcome([], [])
    try:
        if not wrong:
            outcome = services.save(found, wanted, request.user)
    except services.ClosedError:
        reason = "Cette évaluation a été close pendant que vous la remplissiez : votre dernière réponse n'est pas enregistrée."
        if alone:
            return JsonResponse({"message": reason}, status=409)
        return render(
            request, "households/refused.html", {"reason": reason, "back": found.get_absolute_url()}, status=409
        )
    if alone:
        return _alone(request, wanted, wrong, outcome)
    if wrong or outcome.conflicts:
        return _merge_page(request, found, outcome, wrong=wrong, typed=typed, wanted=wanted)
    messages.success(request, "Toutes les informations sont sauvegardées.")
    return redirect(found) if not found.living else redirect("households:tab", found.household_id, "situation")


def _alone(request: HttpRequest, wanted: dict, wrong: dict, outcome: services.Outcome) -> JsonResponse:
    """Answer the page that saved one field by itself."""
    if wrong:
        return JsonResponse({"message": next(iter(wrong.values()))}, status=422)
    if outcome.conflicts:
        conflict = outcome.conflicts[0]
        return JsonResponse(
            {
                "message": f"{conflict.by or 'Quelqu’un'} a répondu autre chose pendant que vous aviez la page ouverte.",
                "theirs": questionnaires.show(conflict.question, conflict.theirs) or words.EMPTY,
                "mine": questionnaires.show(conflict.question, conflict.mine) or words.EMPTY,
                "theirs_value": conflict.theirs,
                "base": json.dumps(conflict.theirs, ensure_ascii=False),
            },
            status=409,
        )
    now = timezone.localtime()
    return JsonResponse(
        {
            "saved": "Toutes les informations sont sauvegardées. "
            f"Dernière mise à jour le {now:%d/%m/%Y} à {now:%H:%M} par {request.user}.",
            "base": {code: json.dumps(value, ensure_ascii=False) for code, (_base, value) in wanted.items()},
        }
    )


def _merge_page(
    request: HttpRequest, found: Evaluation, outcome: services.Outcome, *, wrong: dict, typed: dict, wanted: dict
) -> HttpResponse:
    """Show again what was typed; beside each answer in conflict, what the other one saved."""
    answers = _answers(Evaluation.objects.using("default").get(pk=found.pk))
    # What was typed stays in its field, over the base of now; a field that was not touched shows what is saved now.
    touched = {code for code, (base, mine) in wanted.items() if mine != base} | wrong.keys()
    sections = _sections(
        found.questionnaire.definition, answers, {code: text for code, text in typed.items() if code in touched}
    )
    for section in sections:
        for question in section["questions"]:
            code = question["code"]
            question["error"] = wrong.get(code, "")
            if code in touched and code in wanted:
                question["value"] = wanted[code][1]
                question["text"] = typed[code]
    context = frame(request, found.household, "situation" if found.living else "evaluations")
    return render(
        request,
        "evaluations/evaluation.html",
        context
        | {
            "evaluation": found,
            "sections": sections,
            "editable": True,
            "save_to": request.path,
            "idempotency_key": key_of(request) or new_key(),
            "conflicts": [
                {
                    "label": conflict.question["label"],
                    "theirs": questionnaires.show(conflict.question, conflict.theirs) or words.EMPTY,
                    "mine": questionnaires.show(conflict.question, conflict.mine) or words.EMPTY,
                    "by": conflict.by,
                }
                for conflict in outcome.conflicts
            ],
            "wrong": [
                (questionnaires.questions(found.questionnaire.definition)[code], why) for code, why in wrong.items()
            ],
        },
        status=422 if wrong else 409,
    )


@follows_merges
@requires("repertoire", "lire")
@read_only
@require_safe
def compare(request: HttpRequest, identity: int) -> HttpResponse:
    """Two evaluations of a household, answer by answer."""
    household = open_household(request, identity)
    keys = [request.GET.get("a", ""), request.GET.get("b", "")]
    both = {
        str(row.pk): row
        for row in Evaluation.objects.filter(
            household=household, pk__in=[key for key in keys if key.isdecimal()]
        ).select_related("questionnaire")
    }
    chosen = [both.get(key) for key in keys]
    if None in chosen or chosen[0] == chosen[1]:
        messages.error(request, "Choisissez deux évaluations différentes de ce ménage.")
        return redirect("households:tab", household.pk, "evaluations")
    first, second = sorted(chosen, key=lambda row: (row.started_at, row.pk))
    asked = [questionnaires.questions(row.questionnaire.definition) for row in (first, second)]
    answers = [_answers(first), _answers(second)]
    rows = []
    for code in [*asked[0], *(code for code in asked[1] if code not in asked[0])]:
        shown = [
            questionnaires.show(asked[side][code], answers[side].get(code)) if code in asked[side] else None
            for side in (0, 1)
        ]
        if any(shown):
            rows.append(
                {
                    "label": (asked[1].get(code) or asked[0][code])["label"],
                    "first": shown[0],
                    "second": shown[1],
                    "differs": shown[0] is not None and shown[1] is not None and shown[0] != shown[1],
                }
            )
    return render(
        request,
        "evaluations/compare.html",
        frame(request, household, "evaluations") | {"first": first, "second": second, "rows": rows},
    )


# --- in the words of history -----------------------------------------------------------------------------------------
@words.called("evaluations_answer")
def _question(change: Change) -> str:
    code = (change.after or {}).get("question") or (change.before or {}).get("question")
    row = Answer.objects.filter(pk=change.row_id).select_related("evaluation__questionnaire").first()
    if row is None:
        return code or ""
    question = questionnaires.questions(row.evaluation.questionnaire.definition).get(row.question)
    return f"{row.evaluation.questionnaire.title}, {question['label'] if question else row.question}"
