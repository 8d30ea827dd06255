"""A pass over the directory: read everything, look at it, write it. What cannot be read whole changes nothing."""

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.db import connections, transaction
from django.db.models import Max
from django.utils import timezone

from sias.accounts.models import Posting
from sias.accounts.postings import settle
from sias.api.models import Key
from sias.directory import client
from sias.directory.models import Card, Run, RunRow
from sias.directory.staging import SOURCE, Staged, Staging, Verdict
from sias.habilitations.models import Assignment, BreakGlass
from sias.habilitations.services import install, withdraw
from sias.history.context import because
from sias.journal.access import Action, record_access
from sias.platform import figures
from sias.socle import versions
from sias.socle.models import Service
from sias.tasks.services import hand_over

logger = logging.getLogger("sias.directory")
NIGHT = 2  # o'clock
DEPARTURES_EVERY = timedelta(minutes=15)
PROLONG = timedelta(days=30)  # rights that end sooner are prolonged
PERSONAL = ("username", "last_name", "first_name", "email")


# --- which is due ----------------------------------------------------------------------------------------------------
def due() -> Run | None:
    """Return the pass to make now: asked for, of the night, or a look at who left; None while none is."""
    asked = Run.objects.using("default").select_for_update(skip_locked=True).filter(state=Run.State.REQUESTED)
    if run := asked.order_by("asked_at").first():
        return run
    now = timezone.now()
    made = Run.objects.using("default").filter(dry=False, ended_at__isnull=False)
    last = made.filter(ended_at__gt=now - DEPARTURES_EVERY).exists()
    done = made.filter(scope=Run.Scope.WHOLE, ended_at__gte=_last_night(now)).exclude(state=Run.State.FAILED).exists()
    if last:
        return None
    return Run(scope=Run.Scope.DEPARTURES if done else Run.Scope.WHOLE)


def _last_night(now: datetime) -> datetime:
    night = timezone.localtime(now).replace(hour=NIGHT, minute=0, second=0, microsecond=0)
    return night if night <= now else night - timedelta(days=1)


# --- one pass --------------------------------------------------------------------------------------------------------
def perform(run: Run) -> Run:
    """Make a pass and keep what it found. Nothing but its own account is written unless it ends as applied."""
    try:
        reading = client.read()
    except (client.DirectoryAwayError, client.IncompleteError) as error:
        run.problem = str(error)[:500]
        return _end(run, Run.State.FAILED)
    with transaction.atomic(), connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('annuaire', 0))")
        staging = Staging(reading, departures_only=run.scope == Run.Scope.DEPARTURES)
        run.server, run.counts = reading.server, staging.counts()
        run.groups = {name: len(members) for name, members in sorted(reading.groups.items())}
        most = max(staging.most(), run.allowed)
        if run.dry:
            _end(run, Run.State.PREVIEW)
        elif run.counts["prives"] > most:
            run.problem = (
                f"{run.counts['prives']} agents perdraient leur accès, {most} au plus sans confirmation : "
                "rien n'est changé."
            )
            _end(run, Run.State.REFUSED)
        else:
            run.save()
            with because(f"annuaire : passage n° {run.pk}"):
                _Writing(run, staging).all()
            _end(run, Run.State.APPLIED)
        RunRow.objects.bulk_create(
            [_of(run, one) for one in sorted(staging.staged, key=lambda one: str(one.verdict))], batch_size=1000
        )
        _forget_quiet(run)
    return run


def _of(run: Run, one: Staged) -> RunRow:
    row = one.row()
    row.run = run
    return row


def _end(run: Run, state: str) -> Run:
    run.state, run.ended_at = state, timezone.now()
    with transaction.atomic():
        run.save()
        if state == Run.State.FAILED:
            _forget_quiet(run)
    (logger.info if state in {Run.State.APPLIED, Run.State.PREVIEW} else logger.error)(
        "pass %s: %s %s %s", run.pk, state, run.counts, run.problem
    )
    return run


def _forget_quiet(run: Run) -> None:
    """Keep one of the looks at departures that ended the same without a departure: one comes every quarter of an hour."""
    if run.scope == Run.Scope.DEPARTURES:
        same = Run.objects.using("default").filter(scope=run.scope, state=run.state, problem=run.problem, asked_by=None)
        if run.state == Run.State.APPLIED:
            same = same.filter(rows=None)
        same.filter(pk__lt=run.pk).delete()


class _Writing:
    """Write what a staging says, in the caller's transaction."""

    def __init__(self, run: Run, staging: Staging) -> None:
        self.run, self.staging = run, staging
        self.now = staging.now

    def all(self) -> None:
        """Those who are here, their units and rights; then those who left."""
        here = [one for one in self.staging.staged if one.verdict in {Verdict.NEW, Verdict.CHANGED, Verdict.BACK}]
        self._accounts(here)
        self._cards(here)
        self._postings(here)
        for one in here:
            self._rights(one)
        for one in self.staging.same:
            self._prolong(one)
        self._departures([one for one in self.staging.staged if one.verdict == Verdict.GONE])
        settle()

    def _accounts(self, here: list[Staged]) -> None:
        model, made, corrected = get_user_model(), [], []
        for one in here:
            if one.agent is None:
                one.agent = model()
                one.agent.set_unusable_password()
                made.append(one.agent)
            else:
                corrected.append(one.agent)
            for name in PERSONAL:
                setattr(one.agent, name, getattr(one.seen, name))
            if one.verdict == Verdict.BACK:
                one.agent.is_active = True
                record_access(self.run.asked_by, one.agent, Action.RIGHTS, "annuaire : retour", domain="annuaire")
        model.objects.bulk_create(made, batch_size=500)
        model.objects.using("default").bulk_update(corrected, [*PERSONAL, "is_active"], batch_size=500)

    def _cards(self, here: list[Staged]) -> None:
        made, corrected = [], []
        for one in here:
            card = one.card or Card(agent=one.agent, entry=one.seen.identity)
            card.entry, card.dn = one.seen.identity, one.seen.entry.dn[:500]
            card.left_at, card.why_left = None, ""
            (corrected if one.card else made).append(card)
        Card.objects.bulk_create(made, batch_size=500)
        Card.objects.using("default").bulk_update(corrected, ["entry", "dn", "left_at", "why_left"], batch_size=500)

    def _postings(self, here: list[Staged]) -> None:
        moved, ended = [], []
        for one in here:
            post = self.staging.posts.get(one.agent.pk)
            wanted = {"service": one.seen.service, "function": one.seen.function}
            if not one.seen.service and post is not None:
                ended.append((one.agent.pk,))
            elif one.seen.service and (post is None or {name: getattr(post, name) for name in wanted} != wanted):
                moved.append(versions.Wanted((one.agent.pk,), wanted | {"source": SOURCE}, self.staging.day))
        versions.put(Posting, ("agent_id",), moved)
        versions.end(Posting, ("agent_id",), ended, self.staging.day)

    def _rights(self, one: Staged) -> None:
        held = self.staging.held.get(one.agent.pk, {})
        withdraw([row for right, row in held.items() if right not in one.wanted], f"{self.run}", by=self.run.asked_by)
        for right in sorted(one.wanted - held.keys()):
            self._give(one.agent, right)
        self._prolong(one)

    def _prolong(self, one: Staged) -> None:
        for right, row in self.staging.held.get(one.agent.pk, {}).items():
            if right in one.wanted and row.until <= self.staging.day + PROLONG:
                self._give(one.agent, right)

    @staticmethod
    def _give(agent: object, right: tuple[str, str, str]) -> None:
        profile, territory, service = right
        install(agent, profile, territory=territory, service=service, source=SOURCE)

    def _departures(self, gone: list[Staged]) -> None:
        """Lock out: nobody signs in, nothing that they hold goes on, what they had to do goes to others."""
        agents = [one.agent for one in gone]
        if not agents:
            return
        top = Service.objects.on(self.staging.day).filter(parent="").order_by("code").first()
        get_user_model().objects.filter(pk__in=[agent.pk for agent in agents]).update(is_active=False)
        for one in gone:
            why = f"a quitté l'organisation ({one.reason})"
            hand_over(one.agent, why, otherwise=top.name if top else "Administration")
            rows = Assignment.objects.using("default").filter(agent=one.agent, until__gt=self.staging.day)
            withdraw(rows, f"{self.run} : départ", by=self.run.asked_by)
            record_access(
                self.run.asked_by, one.agent, Action.RIGHTS, f"annuaire : départ, {one.reason}", domain="annuaire"
            )
            one.card.left_at, one.card.why_left = self.now, one.reason[:200]
        Card.objects.using("default").bulk_update([one.card for one in gone], ["left_at", "why_left"], batch_size=500)
        BreakGlass.objects.filter(agent__in=agents, until__gt=self.now).update(until=self.now)
        Key.objects.filter(partner__agent__in=agents, revoked_at=None).update(revoked_at=self.now)
        end_sessions({agent.pk for agent in agents})
        versions.end(Posting, ("agent_id",), [(agent.pk,) for agent in agents], self.staging.day)


def end_sessions(agents: set[int]) -> int:
    """End every session of the agents, in both rooms at once: sessions are rows. Return how many."""
    wanted = {str(pk) for pk in agents}
    open_now = Session.objects.using("default").filter(expire_date__gt=timezone.now())
    theirs = [row.pk for row in open_now if row.get_decoded().get("_auth_user_id") in wanted]
    return Session.objects.filter(pk__in=theirs).delete()[0]


@figures.figure("passes")
def ended() -> figures.Rows:
    """When passes last ended how, whoever made them."""
    runs = Run.objects.using("default").filter(dry=False, ended_at__isnull=False)
    last = {(scope, state): at for scope, state, at in runs.values_list("scope", "state").annotate(Max("ended_at"))}
    return [
        {
            "kind": scope.name.lower(),
            "outcome": state.name.lower(),
            "at": last[scope, state].timestamp() if (scope, state) in last else 0,
        }
        for scope in Run.Scope
        for state in (Run.State.APPLIED, Run.State.REFUSED, Run.State.FAILED)
    ]


def enabled() -> bool:
    """Tell whether this installation has a directory."""
    return bool(settings.SIAS_LDAP_SERVERS)
