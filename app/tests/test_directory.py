"""The directory: passes over a real slapd, up to 3 000 agents, departures, sign-in, what happens while it is away."""

import json
import socket
import threading
import time
import uuid
from contextlib import suppress
from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.db import transaction
from django.test import Client, override_settings
from django.utils import timezone
from sias.accounts.models import Posting
from sias.api.models import Key, Partner
from sias.directory import client as ldap
from sias.directory import passes
from sias.directory.models import Card, GroupRule, Run, RunRow
from sias.directory.sample import ldif, rules
from sias.habilitations.models import Assignment
from sias.habilitations.rights import can
from sias.history.models import Change
from sias.platform import figures
from sias.platform.management.commands import worker
from sias.platform.models import Duty
from sias.repertoire.models import Person
from sias.tasks.models import Absence, Task
from sias.tasks.services import push

from tests.conftest import PASSWORD as LOCAL_PASSWORD
from tests.conftest import make_agent, manage
from tests.slapd import BASE, PASSWORD, READER, SECRET, Slapd, authority, free_port

DEPARTMENT = 3000
AGENTS = 600  # two pages of entries; the last test has the whole department
Verdict = RunRow.Verdict


@pytest.fixture(scope="module")
def slapd():
    server = Slapd()
    server.add("\n".join(ldif(AGENTS, BASE)))
    server.start()
    yield server
    server.remove()


@pytest.fixture(autouse=True)
def _settings(slapd):
    ldap._failed_at.clear()
    with override_settings(
        SIAS_LDAP_SERVERS=[slapd.uri],
        SIAS_LDAP_CA=slapd.ca,
        SIAS_LDAP_BASE=BASE,
        SIAS_LDAP_USER=READER,
        SIAS_LDAP_PASSWORD=SECRET,
    ):
        yield


@pytest.fixture(scope="module")
def loaded(database, slapd):
    """The first pass: everybody is new."""
    rules()
    with override_settings(
        SIAS_LDAP_SERVERS=[slapd.uri],
        SIAS_LDAP_CA=slapd.ca,
        SIAS_LDAP_BASE=BASE,
        SIAS_LDAP_USER=READER,
        SIAS_LDAP_PASSWORD=SECRET,
    ):
        return synchronise()


@pytest.fixture
def newcomer(loaded, slapd):
    """An agent of the directory of the test's own, synchronised; the test may change the entry as it likes."""
    uid = f"t{uuid.uuid4().hex[:10]}"
    dn = slapd.write(uid, sn="Essai", givenName="Camille", mail=f"{uid}@moselle.example", departmentNumber="UTAS-METZ")
    slapd.group(f"groupe-{uid}", dn)
    GroupRule.objects.create(group=f"groupe-{uid}", profile="TS", territory="*", validated_at=timezone.now())
    assert verdict(synchronise(), uid) == Verdict.NEW
    yield get_user_model().objects.get(username=uid)
    slapd.remove_entry(uid)
    slapd.group(f"groupe-{uid}")
    GroupRule.objects.filter(group=f"groupe-{uid}").delete()
    synchronise()


@pytest.fixture(scope="module")
def administrator(database) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(make_agent(f"d{uuid.uuid4().hex[:10]}", "AN"), "django.contrib.auth.backends.ModelBackend")
    return client


def synchronise(**facts: object) -> Run:
    return passes.perform(Run(**facts))


def due() -> Run | None:
    with transaction.atomic():  # as the worker asks
        return passes.due()


def row(run: Run, uid: str) -> RunRow | None:
    return run.rows.filter(username=uid).first()


def verdict(run: Run, uid: str) -> str:
    found = row(run, uid)
    return found.verdict if found else ""


def text(response) -> str:
    return " ".join(response.content.decode().replace("&#x27;", "'").split())


def post(client: Client, path: str, **data: object):
    return client.post(path, {"idempotency_key": uuid.uuid4().hex, **data})


def enter(username: str, password: str = PASSWORD):
    client = Client(raise_request_exception=False)
    return client, client.post("/connexion/", {"username": username, "password": password})


# --- passes ----------------------------------------------------------------------------------------------------------
def test_the_first_pass_brings_everybody_with_unit_and_rights_and_the_second_changes_nothing(loaded):
    assert loaded.state == Run.State.APPLIED
    assert loaded.counts["lus"] == loaded.counts["nouveau"] == AGENTS
    agents = get_user_model().objects.filter(directory_card__isnull=False, email__endswith="@moselle.example")
    assert agents.count() == AGENTS
    one = agents.filter(assignments__profile="TS").first()
    assert not one.has_usable_password()
    post_ = one.postings.get()
    assert post_.source == "annuaire"
    assert one.service  # the unit's name, which tasks compare
    assert one.assignments.get().territory == post_.service.removeprefix("PMI-")
    assert can(one, "repertoire", "rechercher")
    again = synchronise()
    assert again.state == Run.State.APPLIED
    assert again.counts["inchanges"] == AGENTS
    assert not again.rows.exists()


def test_bad_entries_are_rejected_with_their_reason_and_hold_nobody_up(loaded, slapd):
    good, other, unknown, odd = (f"b{uuid.uuid4().hex[:8]}" for _ in range(4))
    slapd.write(good, mail="commune@moselle.example")
    slapd.write(other, mail="Commune@moselle.example")
    slapd.write(unknown, departmentNumber="NULLE-PART")
    slapd.write(odd, mail="pas une adresse")
    with slapd.administrator() as connection:
        connection.add(f"cn=copieur,ou=agents,{BASE}", "inetOrgPerson", {"sn": "Copieur"})
        connection.add(f"cn=double,ou=agents,{BASE}", "inetOrgPerson", {"sn": "Double", "uid": [odd.upper()]})
    make_agent(local := f"l{uuid.uuid4().hex[:8]}", "AN")
    slapd.write(local, sn="Usurpateur")
    fine = f"b{uuid.uuid4().hex[:8]}"
    slapd.write(fine, departmentNumber="DG")
    try:
        run = synchronise()
        assert run.state == Run.State.APPLIED
        for uid, words in {
            good: "Plusieurs entrées portent l'adresse",
            other: "Plusieurs entrées portent l'adresse",
            unknown: "Service « NULLE-PART » inconnu",
            odd: "n'est pas une adresse",
            local: "compte d'ici",
        }.items():
            assert (row(run, uid).verdict, words in row(run, uid).reason) == (Verdict.REJECTED, True), row(run, uid)
        assert "Plusieurs entrées portent l'identifiant" in row(run, odd).reason
        assert "Sans identifiant" in run.rows.get(dn__startswith="cn=copieur").reason
        assert verdict(run, fine) == Verdict.NEW
        assert not get_user_model().objects.filter(username__in=[good, other, unknown, odd]).exists()
        assert get_user_model().objects.get(username=local).last_name == ""
    finally:
        for uid in (good, other, unknown, odd, local, fine):
            slapd.remove_entry(uid)
        with slapd.administrator() as connection:
            connection.delete(f"cn=copieur,ou=agents,{BASE}")
            connection.delete(f"cn=double,ou=agents,{BASE}")
        synchronise()


def test_a_changed_entry_changes_name_unit_and_rights_and_history_says_so(newcomer, slapd):
    uid = newcomer.username
    assert can(newcomer, "repertoire", "lire", Person.objects.filter(commune="57463").first())
    slapd.write(uid, sn="Mariée", departmentNumber="UTAS-WOIPPY")
    preview = synchronise(dry=True)
    assert preview.state == Run.State.PREVIEW
    assert row(preview, uid).differences == [
        ["Nom", "Essai", "Mariée"],
        ["Service", "UTAS-METZ", "UTAS-WOIPPY"],
        ["Habilitations", "TS UTAS-METZ", "TS UTAS-WOIPPY"],
    ]
    newcomer.refresh_from_db()
    assert newcomer.last_name == "Essai"
    run = synchronise()
    changed = get_user_model().objects.get(pk=newcomer.pk)
    assert (changed.last_name, changed.service) == ("Mariée", "UTAS de Woippy")
    assert not can(changed, "repertoire", "lire", Person.objects.filter(commune="57463").first())
    assert can(changed, "repertoire", "lire", Person.objects.filter(commune="57751").first())
    told = Change.objects.get(table_name="accounts_agent", row_id=str(newcomer.pk), after__last_name="Mariée")
    assert (told.before["last_name"], told.reason) == ("Essai", f"annuaire : passage n° {run.pk}")
    assert not Change.objects.filter(table_name="accounts_agent", after__has_key="password").exists()


def test_a_new_name_to_sign_in_with_is_the_same_agent(newcomer, slapd):
    fresh = f"t{uuid.uuid4().hex[:10]}"
    with slapd.administrator() as connection:
        connection.modify_dn(f"uid={newcomer.username},ou=agents,{BASE}", f"uid={fresh}")
    try:
        synchronise()
        assert get_user_model().objects.get(pk=newcomer.pk).username == fresh
    finally:
        with slapd.administrator() as connection:
            connection.modify_dn(f"uid={fresh},ou=agents,{BASE}", f"uid={newcomer.username}")


def test_an_identifier_given_to_somebody_else_does_not_inherit_the_former_ones_account(newcomer, slapd):
    slapd.remove_entry(newcomer.username)
    slapd.write(newcomer.username, sn="Tout", givenName="Autre")
    run = synchronise()
    assert sorted(run.rows.filter(username=newcomer.username).values_list("verdict", flat=True)) == ["parti", "rejete"]
    slapd.remove_entry(newcomer.username)
    slapd.write(newcomer.username, sn="Essai", givenName="Camille")  # the same person's entry, made anew
    assert verdict(synchronise(), newcomer.username) == Verdict.BACK
    assert get_user_model().objects.get(pk=newcomer.pk).is_active


# --- departures ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "leaving",
    [
        (None, "absent de l'annuaire"),
        ({"pwdAccountLockedTime": "000001010000Z"}, "verrouillé"),
        ({"pwdEndTime": "20260101000000Z"}, "fin d'accès le 01/01/2026"),
        ({"employeeType": "Retraité"}, "Retraité"),
    ],
    ids=["absent", "locked", "ended", "retired"],
)
def test_whoever_leaves_is_out_at_once_everywhere(cluster, newcomer, slapd, person, leaving):
    uid, (facts, words) = newcomer.username, leaving
    client, response = enter(uid)
    assert response.status_code == 302
    assert client.get("/repertoire/").status_code == 200
    colleague = make_agent(f"c{uuid.uuid4().hex[:8]}", "TS", service="UTAS de Woippy")
    of_service = push("essai", "À mon service", assignee=newcomer, service="Cellule", person=person)
    mine = push("essai", "À moi", assignee=newcomer)
    Absence.objects.create(
        agent=colleague, substitute=newcomer, since=timezone.localdate(), until=timezone.localdate() + timedelta(days=5)
    )
    partner = Partner.objects.create(name=uid, agent=newcomer, scopes=[])
    key = Key.issue(partner)
    if facts is None:
        slapd.remove_entry(uid)
    else:
        slapd.write(uid, **facts)
    run = synchronise(scope=Run.Scope.DEPARTURES)
    assert run.state == Run.State.APPLIED
    assert [(one.username, one.verdict) for one in run.rows.all()] == [(uid, Verdict.GONE)]
    assert words in run.rows.get().reason
    gone = get_user_model().objects.get(pk=newcomer.pk)
    assert not gone.is_active
    assert not any(one.get_decoded().get("_auth_user_id") == str(gone.pk) for one in Session.objects.all())
    assert client.get("/repertoire/").status_code == 302
    assert enter(uid)[1].status_code == 200  # the form again
    assert Key.find(key) is None
    assert partner.keys.get().revoked_at is not None
    assert not gone.assignments.filter(until__gt=timezone.localdate()).exists()
    of_service.refresh_from_db()
    mine.refresh_from_db()
    assert (of_service.assignee, of_service.service) == (None, "Cellule")
    assert (mine.assignee, mine.service) == (None, "UTAS de Metz")
    assert words in mine.events.last().note
    assert Task.objects.filter(kind="remplacant", service="UTAS de Woippy", title__contains=str(colleague)).exists()
    traces = cluster.sql(
        "SELECT reason FROM journal_entry WHERE object_type = 'accounts.agent' AND object_id = %s", [str(gone.pk)]
    )
    assert any(words in reason for (reason,) in traces)
    assert Change.objects.filter(
        table_name="accounts_agent", row_id=str(gone.pk), after__is_active=False, reason__contains=f"n° {run.pk}"
    ).exists()
    Partner.objects.filter(pk=partner.pk).delete()
    if facts is not None:
        slapd.write(uid, **dict.fromkeys(facts))
        assert verdict(synchronise(), uid) == Verdict.BACK
        assert enter(uid)[1].status_code == 302


def test_tasks_of_whoever_left_go_to_their_substitute_when_they_had_named_one(newcomer, slapd):
    colleague = make_agent(f"c{uuid.uuid4().hex[:8]}", "TS")
    today = timezone.localdate()
    Absence.objects.create(agent=newcomer, substitute=colleague, since=today, until=today)
    mine = push("essai", "À moi", assignee=newcomer)
    slapd.write(newcomer.username, employeeType="sorti")
    synchronise()
    mine.refresh_from_db()
    assert mine.assignee == colleague
    slapd.write(newcomer.username, employeeType=None)


def test_wrong_passwords_lock_a_door_and_end_no_career(newcomer, slapd):
    for _ in range(6):
        assert enter(newcomer.username, "faux")[1].status_code == 200
    assert enter(newcomer.username)[1].status_code == 200  # the right one, too late
    with slapd.administrator() as connection:
        connection.search(BASE, f"(uid={newcomer.username})", attributes=["pwdAccountLockedTime"])
        assert connection.response[0]["raw_attributes"]["pwdAccountLockedTime"]
    assert synchronise().counts.get("parti", 0) == 0
    newcomer.refresh_from_db()
    assert newcomer.is_active


def test_an_account_closed_by_hand_is_not_opened_by_a_pass(newcomer):
    get_user_model().objects.filter(pk=newcomer.pk).update(is_active=False)
    synchronise()
    newcomer.refresh_from_db()
    assert not newcomer.is_active


def test_accounts_of_our_own_are_no_departures(loaded):
    mine = make_agent(f"l{uuid.uuid4().hex[:8]}", "AN")
    assert synchronise().state == Run.State.APPLIED
    mine.refresh_from_db()
    assert mine.is_active


def test_a_mass_departure_is_refused_until_somebody_says_why(loaded, slapd, administrator):
    uids = [f"m{uuid.uuid4().hex[:10]}" for _ in range(9)]
    for uid in uids:
        slapd.write(uid)
    synchronise()
    for uid in uids:
        slapd.remove_entry(uid)
    active = get_user_model().objects.filter(username__in=uids, is_active=True)
    with override_settings(SIAS_LDAP_MOST_DEPARTURES=0):
        refused = synchronise()
        assert refused.state == Run.State.REFUSED
        assert "9 agents perdraient leur accès" in refused.problem
        assert active.count() == 9
        page = text(administrator.get(f"/annuaire/passages/{refused.pk}/"))
        assert "Rien n'est changé" in page
        assert uids[0] in page
        path = f"/annuaire/passages/{refused.pk}/admettre/"
        assert post(administrator, path, motif="trop court").status_code == 422
        assert post(administrator, path, motif="Fin des contrats de l'été, liste de la DRH").status_code == 302
        asked = Run.objects.get(state=Run.State.REQUESTED)
        assert asked.allowed == 9
        assert passes.perform(due()).state == Run.State.APPLIED
    assert active.count() == 0


def test_a_group_that_was_emptied_by_mistake_is_a_mass_departure_too(loaded, slapd):
    group = "sias-pmi"
    with slapd.administrator() as connection:
        connection.search(BASE, f"(cn={group})", attributes=["member"])
        members = [name.decode() for name in connection.response[0]["raw_attributes"]["member"]]
    slapd.group(group, members[0])
    try:
        run = synchronise()
        assert run.state == Run.State.REFUSED
        assert run.counts["prives"] == len(members) - 1
        assert Assignment.objects.filter(
            source="annuaire", profile="PM", until__gt=timezone.localdate()
        ).count() == len(members)
    finally:
        slapd.group(group, *members)


# --- what cannot be read changes nothing -----------------------------------------------------------------------------
def test_a_directory_that_is_away_changes_nothing(loaded, slapd):
    with slapd.down():
        run = synchronise()
    assert run.state == Run.State.FAILED
    assert "localhost" in run.problem
    assert Card.objects.filter(left_at=None).count() >= AGENTS


def test_a_directory_that_does_not_tell_all_changes_nothing(loaded, slapd):
    """Whoever reads without the right to read everything would take the others for gone."""
    with slapd.administrator() as connection:
        name = f"cn=petit,ou=accounts,{BASE}"
        connection.add(name, ["organizationalRole", "simpleSecurityObject"], {"cn": "petit", "userPassword": SECRET})
    with override_settings(SIAS_LDAP_USER=name):
        run = synchronise()
    assert run.state == Run.State.FAILED  # it sees no agent at all
    with override_settings(SIAS_LDAP_USER="cn=root,dc=sias,dc=internal", SIAS_LDAP_PASSWORD="faux"):
        run = synchronise()
    assert run.state == Run.State.FAILED
    assert "compte de lecture" in run.problem
    assert Card.objects.filter(left_at=None).count() >= AGENTS


def test_a_size_limit_is_no_end_of_the_list(loaded, slapd):
    with slapd.administrator() as connection:
        name = f"cn=borne,ou=accounts,{BASE}"
        connection.add(name, ["organizationalRole", "simpleSecurityObject"], {"cn": "borne", "userPassword": SECRET})
    limits, access = slapd.configure(
        olcLimits=[f'dn.exact="{name}" size.soft=500 size.hard=500 size.prtotal=550'],
        olcAccess=[
            "{0}to attrs=userPassword by anonymous auth by * none",
            f'{{1}}to * by dn.exact="{READER}" read by dn.exact="{name}" read by * none',
        ],
    )
    try:
        with override_settings(SIAS_LDAP_USER=name):
            run = synchronise()
    finally:
        slapd.configure(olcLimits=limits, olcAccess=access)
    assert run.state == Run.State.FAILED
    assert "n'a pas tout dit" in run.problem
    assert synchronise().state == Run.State.APPLIED


def test_another_authoritys_server_is_not_believed(loaded, tmp_path):
    authority(tmp_path, "another authority")
    with override_settings(SIAS_LDAP_CA=str(tmp_path / "ca.crt")):
        run = synchronise()
        assert run.state == Run.State.FAILED
        assert "certificate verify failed" in run.problem
        assert enter("agent", "x")[1].status_code == 200  # a local account asks no server


def test_another_hosts_certificate_is_not_believed(loaded, slapd):
    """The server answers at 127.0.0.2, too, and its certificate does not say so."""
    with override_settings(SIAS_LDAP_SERVERS=[slapd.uri.replace("localhost", "127.0.0.2")]):
        run = synchronise()
    assert run.state == Run.State.FAILED
    assert "not valid for '127.0.0.2'" in run.problem


def test_ldaps_will_do(loaded, slapd):
    with override_settings(SIAS_LDAP_SERVERS=[f"ldaps://localhost:{slapd.tls_port}"]):
        assert synchronise().state == Run.State.APPLIED


def test_the_other_rooms_server_answers_when_the_first_is_down(newcomer, slapd):
    dead = f"ldap://localhost:{free_port()}"
    with override_settings(SIAS_LDAP_SERVERS=[dead, slapd.uri]):
        run = synchronise()
        assert (run.state, run.server) == (Run.State.APPLIED, slapd.uri)
        assert enter(newcomer.username)[1].status_code == 302


def test_a_server_that_says_nothing_is_left_soon_and_asked_last_for_a_while(newcomer, slapd, monkeypatch):
    monkeypatch.setattr(ldap, "PATIENCE", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        kept = []
        thread = threading.Thread(target=lambda: kept.append(silent.accept()), daemon=True)
        thread.start()
        mute = f"ldap://localhost:{silent.getsockname()[1]}"
        with override_settings(SIAS_LDAP_SERVERS=[mute, slapd.uri]):
            start = time.monotonic()
            assert enter(newcomer.username)[1].status_code == 302
            assert 0.5 < time.monotonic() - start < 4
            start = time.monotonic()
            assert enter(newcomer.username)[1].status_code == 302
            assert time.monotonic() - start < 0.9
        thread.join(5)
        kept[0][0].close()


def forward(listener: socket.socket, port: int) -> None:
    """Lead connections on, as systemd-socket-proxyd does on a host: it accepts whether or not the server is there."""

    def pump(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while part := one.recv(65536):
                other.sendall(part)
        with suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)

    with suppress(OSError):
        while True:
            here, _ = listener.accept()
            there = socket.create_connection(("127.0.0.1", port))
            threads = [threading.Thread(target=pump, args=pair, daemon=True) for pair in ((here, there), (there, here))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            here.close()
            there.close()


def test_an_application_without_a_network_asks_through_sockets_of_its_host(newcomer, slapd, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as mute:
        listener.bind(str(tmp_path / "localhost"))
        listener.listen()
        thread = threading.Thread(target=forward, args=(listener, slapd.tls_port), daemon=True)
        thread.start()
        mute.bind(str(tmp_path / "gone.sias.internal"))  # its server's host has no power
        mute.listen()
        servers = ["ldaps://gone.sias.internal", "ldaps://localhost"]
        with override_settings(SIAS_LDAP_SOCKETS=str(tmp_path), SIAS_LDAP_SERVERS=servers):
            start = time.monotonic()
            assert enter(newcomer.username)[1].status_code == 302
            assert time.monotonic() - start < ldap.CONNECT + 2
            assert enter(newcomer.username, "faux")[1].status_code == 200
            assert synchronise().server == "ldaps://localhost"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


# --- signing in ------------------------------------------------------------------------------------------------------
def test_agents_sign_in_with_the_directorys_password_which_is_kept_nowhere(newcomer):
    client, response = enter(f" {newcomer.username.upper()} ")
    assert response["Location"] == "/"
    assert "Camille Essai" in client.get("/repertoire/").content.decode()
    newcomer.refresh_from_db()
    assert not newcomer.has_usable_password()
    for password in ("faux", "", "*", "\0"):
        assert enter(newcomer.username, password)[1].status_code == 200


@pytest.mark.parametrize("name", ["*", "t*", "(uid=*)", "nobody", "a)(uid=*", "\\2a"])
def test_a_name_is_no_question(loaded, name):
    assert enter(name)[1].status_code == 200


def test_while_the_directory_is_away_the_form_says_so_and_those_inside_go_on(newcomer, slapd):
    client, _ = enter(newcomer.username)
    with slapd.down():
        _, response = enter(newcomer.username)
        assert response.status_code == 503
        assert response["Retry-After"]
        assert "L'annuaire du Département ne répond pas" in text(response)
        assert newcomer.username in text(response)  # what was typed is kept
        assert PASSWORD not in text(response)
        assert client.get("/repertoire/?q=muller").status_code == 200
        _, local = enter("agent", LOCAL_PASSWORD)
        assert local.status_code == 302  # the last resort
    assert enter(newcomer.username)[1].status_code == 302


def test_who_left_this_morning_does_not_get_in_before_the_next_pass(newcomer, slapd):
    slapd.write(newcomer.username, employeeType="sorti")
    assert newcomer.is_active
    assert enter(newcomer.username)[1].status_code == 200
    slapd.write(newcomer.username, employeeType=None)


def test_without_the_setting_nobody_asks_the_directory(newcomer):
    with override_settings(SIAS_LDAP_SIGN_IN=False):
        assert enter(newcomer.username)[1].status_code == 200


# --- the worker, the command, the pages ------------------------------------------------------------------------------
def test_the_worker_makes_the_pass_of_the_night_once_and_looks_at_departures_between(loaded):
    now = timezone.now()
    Run.objects.exclude(pk=loaded.pk).delete()
    Run.objects.update(ended_at=now - timedelta(days=2))
    one = due()
    assert (one.scope, one.pk) == (Run.Scope.WHOLE, None)
    Duty.objects.update_or_create(name="annuaire", defaults={"next_run": now - timedelta(days=9)})
    assert worker.run_one() == "annuaire"
    assert Duty.objects.get(name="annuaire").failures == 0
    made = Run.objects.latest("pk")
    assert (made.scope, made.state) == (Run.Scope.WHOLE, Run.State.APPLIED)
    assert due() is None
    for _ in range(3):
        Run.objects.filter(ended_at__gt=now - timedelta(hours=1)).update(ended_at=passes._last_night(now))
        one = due()
        assert one.scope == Run.Scope.DEPARTURES
        passes.perform(one)
    assert Run.objects.filter(scope=Run.Scope.DEPARTURES).count() == 1  # the others found the same: nothing


def test_a_failed_night_is_tried_again_soon(loaded, slapd):
    Run.objects.exclude(pk=loaded.pk).delete()
    Run.objects.update(ended_at=timezone.now() - timedelta(days=2))
    with slapd.down():
        passes.perform(due())
    assert due() is None
    Run.objects.update(ended_at=timezone.now() - timedelta(days=1, minutes=16))
    assert due().scope == Run.Scope.WHOLE


def test_the_worker_tells_its_host_when_passes_last_ended_how(loaded, slapd, tmp_path):
    def told() -> dict[tuple[str, str], float]:
        figures.tell()
        return {(one["kind"], one["outcome"]): one["at"] for one in json.loads((tmp_path / "passes.json").read_text())}

    Run.objects.exclude(pk=loaded.pk).delete()
    Run.objects.filter(pk=loaded.pk).update(scope=Run.Scope.WHOLE, ended_at=timezone.now())
    with override_settings(SIAS_STATE=str(tmp_path)):
        before = told()
        assert {key for key, at in before.items() if at} == {("whole", "applied")}
        synchronise(dry=True)
        assert told() == before
        with slapd.down():
            failed = synchronise()
        assert told()["whole", "failed"] == failed.ended_at.timestamp() > before["whole", "applied"]
    with override_settings(SIAS_STATE=str(tmp_path / "absent")):
        figures.tell()  # nowhere to write: no work is held up


def variables(slapd) -> dict[str, str]:
    return {
        "SIAS_LDAP_SERVERS": slapd.uri,
        "SIAS_LDAP_CA": slapd.ca,
        "SIAS_LDAP_BASE": BASE,
        "SIAS_LDAP_USER": READER,
    }


@pytest.fixture
def credentials(tmp_path) -> dict[str, str]:
    for name in ("secret_key", "identifier_key", "database_password"):
        (tmp_path / name).write_text("valeur des tests")
    (tmp_path / "ldap_password").write_text(SECRET)
    return {"SIAS_CREDENTIALS_DIR": str(tmp_path)}


def test_the_command_tells_people_and_programs(newcomer, slapd, credentials):
    slapd.write(newcomer.username, title="chargée de mission")
    environment = variables(slapd) | credentials
    done = manage("sync_directory", "--dry-run", user="sias_app", **environment)
    assert f"modifie  {newcomer.username}" in done.stdout
    assert "Fonction : (vide) → chargée de mission" in done.stdout
    assert "Aperçu" in done.stdout
    done = manage("sync_directory", "--json", user="sias_app", **environment)
    told = json.loads(done.stdout)
    assert (told["state"], told["rows"][0]["username"]) == ("applique", newcomer.username)
    assert Posting.objects.on().get(agent=newcomer).function == "chargée de mission"
    with slapd.down():
        done = manage("sync_directory", "--json", user="sias_app", check=False, **environment)
        assert (done.returncode, json.loads(done.stdout)["state"]) == (1, "echoue")
    done = manage("sync_directory", "--allow", "9", user="sias_app", check=False, **environment)
    assert done.returncode == 2
    assert "--reason" in done.stderr


def test_the_pages_lead_from_the_button_to_what_changed(newcomer, slapd, administrator):
    slapd.write(newcomer.username, sn="Renommée")
    page = text(administrator.get("/annuaire/"))
    assert "Synchroniser maintenant" in page
    assert slapd.uri in page
    for dry in ("oui", ""):
        for _ in range(2):  # the second finds the first
            assert post(administrator, "/annuaire/synchroniser/", apercu=dry).status_code == 302
        run = passes.perform(due())
        assert not Run.objects.filter(state=Run.State.REQUESTED).exists()
        page = text(administrator.get(f"/annuaire/passages/{run.pk}/?sort=modifie"))
        assert "Nom : Essai → <strong>Renommée</strong>" in page
        assert ("Aperçu : rien n'est écrit" in page) == bool(dry)
    newcomer.refresh_from_db()
    assert newcomer.last_name == "Renommée"


def test_what_a_group_gives_is_decided_by_two_persons(newcomer, slapd, administrator):
    other = Client(raise_request_exception=False)
    other.force_login(make_agent(f"d{uuid.uuid4().hex[:10]}", "AN"), "django.contrib.auth.backends.ModelBackend")
    group = f"groupe-{newcomer.username}"
    form = {"group": group, "profile": "EC", "territory": "57", "service": ""}
    wrong = post(administrator, "/annuaire/correspondances/nouvelle/", **form | {"territory": "NULLE-PART"})
    assert wrong.status_code == 422
    assert "Aucun territoire" in text(wrong)
    assert post(administrator, "/annuaire/correspondances/nouvelle/", **form).status_code == 302
    assert post(administrator, "/annuaire/correspondances/nouvelle/", **form).status_code == 422  # twice
    rule = GroupRule.objects.get(group=group, profile="EC")
    path = f"/annuaire/correspondances/{rule.pk}/"
    synchronise()
    assert not newcomer.assignments.filter(profile="EC").exists()
    assert post(administrator, path, decision="valider").status_code == 403
    assert post(other, path, decision="valider").status_code == 302
    synchronise()
    assert newcomer.assignments.get(profile="EC").source == "annuaire"
    assert group in text(administrator.get("/annuaire/correspondances/"))
    assert post(other, path, decision="retirer").status_code == 302
    synchronise()
    assert not newcomer.assignments.filter(profile="EC", until__gt=timezone.localdate()).exists()


@pytest.mark.parametrize(
    ("profile", "path", "status"),
    [
        ("TS", "/annuaire/", 403),
        ("DP", "/annuaire/", 200),
        ("DP", "/annuaire/synchroniser/", 403),
        ("AS", "/annuaire/correspondances/", 200),
        ("AS", "/annuaire/correspondances/nouvelle/", 403),
    ],
)
def test_each_profile_sees_what_is_its_own(loaded, profile, path, status):
    client = Client(raise_request_exception=False)
    client.force_login(make_agent(f"p{uuid.uuid4().hex[:10]}", profile), "django.contrib.auth.backends.ModelBackend")
    response = post(client, path) if "synchroniser" in path else client.get(path)
    assert response.status_code == status


def test_rights_that_end_soon_are_prolonged_while_the_group_gives_them(newcomer):
    held = newcomer.assignments.get()
    Assignment.objects.filter(pk=held.pk).update(until=timezone.localdate() + timedelta(days=3))
    synchronise()
    held.refresh_from_db()
    assert held.until > timezone.localdate() + timedelta(days=300)


def test_an_installation_without_a_directory_says_so(administrator):
    with override_settings(SIAS_LDAP_SERVERS=[]):
        page = text(administrator.get("/annuaire/"))
        assert "Aucun annuaire" in page
        assert "Synchroniser maintenant" not in page
        assert post(administrator, "/annuaire/synchroniser/").status_code == 302
        assert not Run.objects.filter(state=Run.State.REQUESTED).exists()
    done = manage("sync_directory", user="sias_app", check=False)
    assert done.returncode == 2
    assert settings.SIAS_LDAP_SERVERS  # the fixture's own


def test_the_whole_department_is_read_and_brought_in(loaded, slapd):
    everybody = "\n".join(ldif(DEPARTMENT, BASE)).split("\n\n")
    agents = [entry for entry in everybody if entry.startswith("dn: uid=")]
    with slapd.down():
        slapd.add("\n\n".join(agents[AGENTS:]))
    run = synchronise()
    assert (run.state, run.counts["lus"], run.counts["nouveau"]) == (Run.State.APPLIED, DEPARTMENT, DEPARTMENT - AGENTS)
    start = time.monotonic()
    again = synchronise(scope=Run.Scope.DEPARTURES)
    assert again.counts["inchanges"] == DEPARTMENT
    assert time.monotonic() - start < ldap.LONGEST_PASS / 2
