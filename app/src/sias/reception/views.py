"""Pages of the reception."""

from datetime import timedelta

from django.contrib import messages
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from sias.habilitations.rights import check, requires
from sias.journal.access import Action, record_access
from sias.platform.failover import read_only
from sias.platform.idempotency import idempotent, key_of, new_key
from sias.platform.pages import form_page
from sias.reception.forms import AnswerForm, AppointmentForm, ContactForm, ReferralForm
from sias.reception.models import Appointment, Contact, Referral
from sias.reception.timeline import SOURCES, moments
from sias.repertoire.models import Person
from sias.tasks import services as tasks
from sias.tasks.views import find_agent

PAGE = 40
FIRST, LAST = 1900, 2200  # years that a page mark may name


@requires("accueil", "lire")
@require_safe
def desk(request: HttpRequest) -> HttpResponse:
    """Today at the desk: appointments of the agent's service, last contacts."""
    start = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    service = request.user.service
    appointments = Appointment.objects.filter(starts_at__gte=start, starts_at__lt=start + timedelta(days=1))
    appointments = appointments.filter(service=service) if service else appointments.filter(agent=request.user)
    contacts = Contact.objects.filter(service=service) if service else Contact.objects.filter(agent=request.user)
    return render(
        request,
        "reception/desk.html",
        {
            "appointments": appointments.select_related("person", "agent")[:200],
            "contacts": contacts.select_related("person", "agent")[:20],
            "today": start,
            "idempotency_key": new_key(),
        },
    )


def _person(request: HttpRequest, identity: int, action: str) -> Person:
    person = get_object_or_404(Person.objects.using("default"), pk=identity)
    check(request.user, "accueil", action, person)
    return person


def _page(request: HttpRequest, form: object, title: str, person: Person, status: int = 200) -> HttpResponse:
    return form_page(
        request,
        form,
        title,
        crumbs=[(str(person), person.get_absolute_url())],
        back=person.get_absolute_url(),
        status=status,
    )


@requires("accueil", "noter")
@require_http_methods(["GET", "HEAD", "POST"])
@idempotent
def contact(request: HttpRequest, identity: int) -> HttpResponse:
    """Note a contact."""
    person = _person(request, identity, "noter")
    form = ContactForm(request.POST if request.method == "POST" else None)
    if request.method != "POST" or not form.is_valid():
        return _page(request, form, "Noter un contact", person, 422 if form.is_bound else 200)
    made = Contact.objects.create(person=person, agent=request.user, service=request.user.service, **form.cleaned_data)
    record_access(request.user, made, Action.CREATE, domain="accueil")
    messages.success(request, "Contact enregistré.")
    return redirect(person)


@requires("accueil", "noter")
@require_http_methods(["GET", "HEAD", "POST"])
@idempotent
def appointment(request: HttpRequest, identity: int) -> HttpResponse:
    """Give an appointment, unless the agent has another at that time."""
    person = _person(request, identity, "noter")
    form = AppointmentForm(request.POST if request.method == "POST" else None, initial={"agent": request.user.username})
    agent = None
    if form.is_bound and form.is_valid():
        agent, problem = find_agent(form.cleaned_data["agent"])
        if problem:
            form.add_error("agent", problem)
    if form.is_bound and form.is_valid():
        data = form.cleaned_data
        try:
            with transaction.atomic():
                made = Appointment.objects.create(
                    person=person,
                    agent=agent,
                    service=agent.service,
                    created_by=request.user,
                    **{name: data[name] for name in ("starts_at", "ends_at", "place", "subject")},
                )
        except IntegrityError as error:
            if "appointment_one_at_a_time" not in str(error):
                raise
            form.add_error("hour", f"{agent} a déjà un rendez-vous à ce moment.")
        else:
            record_access(request.user, made, Action.CREATE, domain="accueil")
            moment = timezone.localtime(made.starts_at)
            messages.success(request, f"Rendez-vous le {moment:%d/%m/%Y à %H:%M} avec {agent}.")
            return redirect(person)
    return _page(request, form, "Donner un rendez-vous", person, 422 if form.is_bound else 200)


@requires("accueil", "noter")
@require_POST
@idempotent
def outcome(request: HttpRequest, identity: int) -> HttpResponse:
    """Say what became of an appointment."""
    found = get_object_or_404(
        Appointment.objects.using("default").select_for_update(of=("self",)).select_related("person"), pk=identity
    )
    check(request.user, "accueil", "noter", found)
    state = request.POST.get("etat", "")
    if state not in {choice for choice, _ in Appointment.State.choices if choice != Appointment.State.PLANNED}:
        return render(request, "400.html", {"reason": "Cet état de rendez-vous n'existe pas."}, status=422)
    if found.state != Appointment.State.PLANNED:
        reason = f"Ce rendez-vous est déjà noté : {found.get_state_display().lower()}. Rien n'a été changé."
        return render(request, "400.html", {"reason": reason}, status=409)
    found.state = state
    found.save(update_fields=["state"])
    record_access(request.user, found, Action.CHANGE, domain="accueil", detail={"etat": state})
    messages.success(request, f"{found.person} : {found.get_state_display().lower()}.")
    return redirect("reception:desk")


@requires("accueil", "orienter")
@require_http_methods(["GET", "HEAD", "POST"])
@idempotent
def referral(request: HttpRequest, identity: int) -> HttpResponse:
    """Send the person to another service: a task in its box."""
    person = _person(request, identity, "orienter")
    form = ReferralForm(request.POST if request.method == "POST" else None)
    if request.method != "POST" or not form.is_valid():
        return _page(request, form, "Orienter vers un service", person, 422 if form.is_bound else 200)
    data = form.cleaned_data
    task = tasks.push(
        "orientation",
        f"Orientation : {person}",
        service=data["to_service"],
        person=person,
        body=data["reason"],
        urgent=data["urgent"],
        agent=request.user,
    )
    made = Referral.objects.create(
        person=person, from_service=request.user.service, created_by=request.user, task=task, **data
    )
    record_access(request.user, made, Action.CREATE, domain="accueil")
    task.url = reverse("reception:answer", args=[made.pk])
    task.save(update_fields=["url"])
    messages.success(request, f"{person} est orienté vers {made.to_service} : une tâche y attend.")
    return redirect(person)


@requires("accueil", "orienter")
@require_http_methods(["GET", "HEAD", "POST"])
@idempotent
def answer(request: HttpRequest, identity: int) -> HttpResponse:
    """Accept or refuse a referral; a refusal says why."""
    found = get_object_or_404(
        Referral.objects.using("default").select_for_update(of=("self",)).select_related("person", "task"), pk=identity
    )
    check(request.user, "accueil", "orienter", found)
    form = AnswerForm(request.POST if request.method == "POST" else None)
    decision = request.POST.get("decision", "")
    status = 200
    if form.is_bound:
        if decision not in {"acceptee", "refusee"}:
            form.add_error(None, "Choisissez d'accepter ou de refuser.")
        elif form.is_valid() and decision == "refusee" and not form.cleaned_data["answer"].strip():
            form.add_error("answer", "Un refus dit pourquoi.")
        status = 422
        if found.state != Referral.State.SENT:
            form.add_error(None, f"Il y a déjà une réponse : {found.get_state_display().lower()}.")
            status = 409
        if form.is_valid():
            found.state, found.answer = decision, form.cleaned_data["answer"]
            found.answered_at, found.answered_by = timezone.now(), request.user
            found.save()
            record_access(request.user, found, Action.CHANGE, domain="accueil", detail={"decision": decision})
            if found.task is not None and found.task.open:
                tasks.finish(found.task, request.user, f"Orientation {found.get_state_display().lower()}")
            messages.success(request, f"Orientation {found.get_state_display().lower()}.")
            return redirect(found.person)
    return render(
        request,
        "reception/answer.html",
        {"referral": found, "form": form, "idempotency_key": key_of(request) or new_key()},
        status=status,
    )


@requires("accueil", "lire")
@read_only
@require_safe
def timeline(request: HttpRequest, identity: int) -> HttpResponse:
    """Everything that happened, the latest first."""
    person = get_object_or_404(Person, pk=identity)
    check(request.user, "accueil", "lire", person)
    record_access(request.user, person, Action.READ, domain="accueil")
    try:
        before = parse_datetime(request.GET.get("avant", "").replace(" ", "+"))
    except ValueError:
        before = None
    if before is None or timezone.is_naive(before) or not FIRST <= before.year <= LAST:
        before = timezone.now() + timedelta(days=3650)
    only = request.GET.get("source", "")
    found = moments(request, person, before, PAGE + 1, only)
    return render(
        request,
        "reception/timeline.html",
        {
            "person": person,
            "moments": found[:PAGE],
            "next": found[PAGE - 1].at.isoformat() if len(found) > PAGE else "",
            "sources": [(code, label) for code, (label, _finder) in SOURCES.items()],
            "only": only if only in SOURCES else "",
            "now": timezone.now(),
        },
    )


contact.sias_form = ContactForm
appointment.sias_form = AppointmentForm
referral.sias_form = ReferralForm
answer.sias_form = AnswerForm
