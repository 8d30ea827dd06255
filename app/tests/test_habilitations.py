"""The table of rights, enforced: each profile and each forbidden act through HTTP, territories, confidential files."""

import re
import uuid
from datetime import timedelta

import psycopg
import pytest
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connections, transaction
from django.test import Client
from django.urls import get_resolver
from django.utils import timezone
from sias.crossdomain import services as crossdomain
from sias.crossdomain.models import Involvement
from sias.duplicates import merging
from sias.habilitations import table as tables
from sias.habilitations.models import Assignment, BreakGlass, ConfidentialPerson
from sias.habilitations.protection import acting_for_nobody, protect
from sias.habilitations.rights import can, mask, rights_of, scope
from sias.habilitations.services import install
from sias.platform.postgresql.session import session_settings
from sias.privacy.export import export
from sias.privacy.retention import run
from sias.repertoire.models import Household, Person
from sias.socle.models import Service, Territory, TerritoryCommune

from tests.conftest import make_agent

METZ, THIONVILLE = "57463", "57672"
TABLE = tables.table()


def rules(patterns=None, prefix="/") -> dict[tuple[str, str], str]:
    """One address for each right that some view asks for."""
    found: dict[tuple[str, str], str] = {}
    for pattern in patterns if patterns is not None else get_resolver().url_patterns:
        where = prefix + str(pattern.pattern)
        if hasattr(pattern, "url_patterns"):
            found |= rules(pattern.url_patterns, where)
        elif rule := getattr(pattern.callback, "sias_requires", None):
            where = re.sub(r"<int:[a-z_]+>", "1", where).replace("<uuid:identity>", str(uuid.UUID(int=0)))
            found.setdefault(rule, re.sub(r"<(?:slug|str):[a-z_]+>", "suivi", where))
    return found


CELLS = [(profile, *rule, path) for rule, path in sorted(rules().items()) for profile in TABLE.profiles]


@pytest.fixture(scope="session")
def of_profile(database):
    """A signed-in browser per profile, for the whole department."""
    clients = {}
    for code in TABLE.profiles:
        clients[code] = Client(raise_request_exception=False)
        clients[code].force_login(make_agent(f"profil-{code.lower()}", code, unit="DG"))
    return clients


@pytest.mark.parametrize(("profile", "domain", "action", "path"), CELLS, ids=lambda value: value.strip("/"))
def test_each_profile_does_what_the_table_says_and_nothing_else(of_profile, profile, domain, action, path):
    allowed = TABLE.reach(profile, domain, action) != tables.NOTHING
    for method in ("get", "post"):
        response = getattr(of_profile[profile], method)(path)
        if allowed:  # the object may still be out of reach, in its own words
            assert "Votre profil" not in response.content.decode(errors="replace"), (method, path)
        else:
            assert response.status_code == 403, (method, path)
            assert "Votre profil" in response.content.decode()


def browser(agent) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(agent)
    return client


def fresh(*profiles: str, **where: str):
    return make_agent(f"a{uuid.uuid4().hex[:12]}", *profiles, **where)


def living_in(commune: str, **more: object) -> Person:
    return Person.objects.filter(commune=commune, **more).order_by("id").first()


@pytest.mark.parametrize("profile", [code for code in TABLE.profiles if TABLE.reach(code, "repertoire", "lire") == "T"])
def test_a_territory_opens_its_persons_and_no_others(profile):
    client = browser(fresh(profile, territory="UTAS-METZ"))
    assert client.get(living_in(METZ).get_absolute_url()).status_code == 200
    refused = client.get(living_in(THIONVILLE).get_absolute_url())
    assert refused.status_code == 403
    assert "hors de votre territoire" in refused.content.decode()


@pytest.mark.parametrize(
    ("territory", "metz"),
    [
        ("UTAS-METZ", True),
        ("UTAS-THIONVILLE", False),
        ("57", True),
        (METZ, True),
        ("EPCI-200039865", True),
        ("rien", False),
    ],
)
def test_territories_are_communes_epci_utas_or_the_department(territory, metz):
    agent = fresh("TS", territory=territory)
    assert can(agent, "repertoire", "lire", living_in(METZ)) is metz


def test_a_person_without_commune_is_reached_from_everywhere():
    person = Person(pk=0, commune=None)
    assert can(fresh("TS", territory="UTAS-METZ"), "repertoire", "lire", person)


def test_an_edit_outside_ones_territory_is_refused_and_changes_nothing(identity):
    person = living_in(THIONVILLE)
    client = browser(fresh("TS", territory="UTAS-METZ"))
    sent = identity | {"version": person.version, "birth_name": "VOLE"}
    assert client.post(f"{person.get_absolute_url()}modifier/", sent).status_code == 403
    person.refresh_from_db()
    assert person.birth_name != "VOLE"


def test_two_assignments_add_up():
    agent = fresh("TS", territory="UTAS-METZ")
    install(agent, "EC")
    rights_of(agent)
    agent = get_user_model().objects.get(pk=agent.pk)
    assert can(agent, "repertoire", "lire", living_in(THIONVILLE))


@pytest.mark.parametrize(
    "changes",
    [
        {"validated_at": None},
        {"until": timezone.localdate()},
        {"since": timezone.localdate() + timedelta(days=2)},  # midnight may pass between collection and test
    ],
    ids=["not validated", "over", "not yet"],
)
def test_an_assignment_that_does_not_count_opens_nothing(changes):
    agent = fresh("TS")
    Assignment.objects.filter(agent=agent).update(**{"since": timezone.localdate() - timedelta(days=9)} | changes)
    assert browser(agent).get("/repertoire/").status_code == 403


def test_nobody_validates_their_own_request_or_their_own_rights():
    one, other = fresh("TS"), fresh("TS")
    facts = {"agent": other, "profile": "TS", "territory": "57", "since": timezone.localdate(), "requested_by": one}
    facts["until"] = timezone.localdate() + timedelta(days=9)
    for validator, name in ((one, "assignment_two_persons"), (other, "assignment_not_oneself")):
        with pytest.raises(IntegrityError, match=name), transaction.atomic():
            Assignment.objects.create(**facts, validated_by=validator, validated_at=timezone.now())


def test_an_unknown_right_is_a_defect_not_a_refusal():
    with pytest.raises(LookupError, match=r"no habilitations\.toml declares"):
        can(fresh("TS"), "repertoire", "rever")


def test_the_scope_of_a_list_is_what_can_says_of_each():
    agent = fresh("TS", territory="UTAS-METZ")
    some = Person.objects.filter(pk__lte=400)
    assert set(scope(agent, some, "repertoire")) == {one for one in some if can(agent, "repertoire", "lire", one)}
    houses = Household.objects.filter(memberships__person__in=some).distinct()
    wanted = {one for one in houses if can(agent, "repertoire", "lire", one)}
    assert set(scope(agent, houses, "repertoire")) == wanted
    assert wanted
    assert not scope(fresh("AF"), some, "repertoire").exists()


def test_search_masks_whom_one_may_not_open():
    person = living_in(THIONVILLE)
    client = browser(fresh("TS", territory="UTAS-METZ"))
    page = client.get("/repertoire/", {"q": person.number}).content.decode()
    assert "hors de votre territoire" in page
    assert person.birth_name not in page
    assert person.first_names not in page


# --- confidential files and exceptional accesses ---------------------------------------------------------------------
@pytest.fixture
def confidential(person):
    Person.objects.filter(pk=person.pk).update(commune=METZ)
    return ConfidentialPerson.objects.create(person=person, reason="violences", set_by=fresh("AS"))


def test_a_confidential_file_is_closed_but_to_named_agents_and_those_who_hold_the_right(confidential):
    person, named = confidential.person, fresh("TS")
    confidential.allowed.add(named)
    refused = browser(fresh("TS")).get(person.get_absolute_url())
    assert refused.status_code == 403
    assert "confidentielle" in refused.content.decode()
    for agent in (named, fresh("RA", territory="UTAS-METZ"), fresh("AS")):
        assert browser(agent).get(person.get_absolute_url()).status_code == 200
    assert browser(fresh("RA", territory="UTAS-THIONVILLE")).get(person.get_absolute_url()).status_code == 403


def test_a_confidential_person_shows_nothing_in_search_and_lists(confidential):
    person, agent = confidential.person, fresh("TS")
    page = browser(agent).get("/repertoire/", {"q": person.birth_name}).content.decode()
    body = page[page.index("<tbody>") :]
    assert "Fiche confidentielle" in body
    assert person.number not in body
    assert "Metz" not in body
    assert mask(agent, [person]) == {person.pk: "confidentiel"}
    assert person not in scope(agent, Person.objects.filter(pk=person.pk), "repertoire")


def open_exceptionally(client, person, motif: str):
    data = {"motif": motif, "idempotency_key": uuid.uuid4().hex}
    return client.post(f"/personnes/{person.pk}/acces-exceptionnel/", data)


def test_an_exceptional_access_wants_a_reason_opens_for_hours_and_only_to_read(cluster):
    person, agent = living_in(THIONVILLE), fresh("TS", territory="UTAS-METZ")
    client = browser(agent)
    assert "acces-exceptionnel" in client.get(person.get_absolute_url()).content.decode()
    refused = open_exceptionally(client, person, "urgent")
    assert refused.status_code == 422
    assert "urgent" in refused.content.decode()  # nothing typed is lost
    assert open_exceptionally(client, person, "Appel du SAMU, enfant seul au domicile").status_code == 302
    assert client.get(person.get_absolute_url()).status_code == 200
    assert client.get(f"{person.get_absolute_url()}modifier/").status_code == 403
    logged = cluster.sql(
        "SELECT reason FROM journal_entry WHERE action = 'acces_exceptionnel' AND agent_id = %s AND person_id = %s",
        [agent.pk, person.pk],
    )
    assert logged == [("Appel du SAMU, enfant seul au domicile",)]
    BreakGlass.objects.filter(agent=agent).update(until=timezone.now())
    assert client.get(person.get_absolute_url()).status_code == 403


def test_an_exceptional_access_never_gives_a_domain_that_the_profile_lacks():
    person, agent = living_in(METZ), fresh("AF")
    BreakGlass.objects.create(agent=agent, person=person, reason="x" * 20, until=timezone.now() + timedelta(hours=1))
    assert open_exceptionally(browser(agent), person, "Je voudrais bien voir cette fiche").status_code == 403
    assert browser(agent).get(person.get_absolute_url()).status_code == 403


# --- row-level security ----------------------------------------------------------------------------------------------
@pytest.fixture
def protected(cluster):
    """A table of a protected domain, made and owned as a module's migration would."""
    with cluster.connect(user="sias_owner") as owner:
        owner.execute("CREATE TABLE rls_essai (id int PRIMARY KEY, words text)")
        owner.execute(protect("rls_essai", "ase").sql)
    yield "rls_essai"
    with cluster.connect(user="sias_owner") as owner:
        owner.execute(protect("rls_essai", "ase").reverse_sql)
        owner.execute("DROP TABLE rls_essai")


@pytest.mark.parametrize(
    ("said", "rows"), [(None, 0), ("", 0), ("pmi", 0), ("ase", 1), ("pmi,ase", 1), ("asee", 0), ("*", 0)]
)
def test_raw_sql_as_the_application_sees_a_protected_row_only_with_its_domain(cluster, protected, said, rows):
    with cluster.connect() as root:
        root.execute("INSERT INTO rls_essai VALUES (1, 'secret')")
    for user in ("sias_app", "sias_owner"):  # FORCE: the owner obeys too
        with cluster.connect(user=user) as connection, connection.transaction():
            if said is not None:
                connection.execute("SELECT set_config('sias.domaines', %s, TRUE)", [said])
            assert connection.execute("SELECT count(*) FROM rls_essai").fetchone() == (rows,)
            changed = connection.execute("UPDATE rls_essai SET words = 'x'").rowcount
            assert changed == rows
            raise psycopg.Rollback


def test_raw_sql_as_the_application_cannot_write_or_unprotect_a_protected_domain(cluster, protected):
    with cluster.connect(user="sias_app") as connection:
        for statement in (
            "INSERT INTO rls_essai VALUES (2, 'x')",
            "ALTER TABLE rls_essai DISABLE ROW LEVEL SECURITY",
            "DROP POLICY rls_essai_domain ON rls_essai",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


@pytest.mark.parametrize(("profile", "rows"), [("RA", 1), ("TS", 0), ("PM", 0), ("DP", 1)])
def test_a_request_tells_postgresql_the_domains_of_its_agent_and_only_for_its_transaction(
    cluster, protected, monkeypatch, profile, rows
):
    cluster.sql("INSERT INTO rls_essai VALUES (1, 'secret')")
    seen = []

    def count(*_args: object, **_kwargs: object):
        for alias in ("replica", "default"):
            with connections[alias].cursor() as cursor:
                cursor.execute("SELECT count(*) FROM rls_essai")
                seen.append(cursor.fetchone()[0])
        return []

    monkeypatch.setattr("sias.repertoire.views.engine.find", count)
    browser(fresh(profile, territory="UTAS-METZ")).get("/repertoire/")
    assert seen[0] == rows
    with transaction.atomic(), connections["default"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM rls_essai")
        assert cursor.fetchone() == (0,)


def test_work_of_nobody_says_its_domains_and_leaves_nothing_behind(cluster, protected):
    cluster.sql("INSERT INTO rls_essai VALUES (1, 'secret')")
    with transaction.atomic(), connections["default"].cursor() as cursor:
        with acting_for_nobody("ase"):
            cursor.execute("SELECT count(*) FROM rls_essai")
            assert cursor.fetchone() == (1,)
        cursor.execute("SELECT count(*) FROM rls_essai")
        assert cursor.fetchone() == (0,)


# --- row-level security on the records of protected domains and on their history ------------------------------------
@pytest.fixture
def placed(person, monkeypatch):
    """A person whom child welfare follows, and housing."""
    monkeypatch.setattr(crossdomain, "DOMAINS", {})
    monkeypatch.setattr("sias.crossdomain.panels.DOMAINS", crossdomain.DOMAINS)
    crossdomain.register("ase", "Aide sociale à l'enfance", protected=True)
    crossdomain.register("fsl", "Logement")
    since = timezone.localdate() - timedelta(days=9)
    with acting_for_nobody("ase"):
        for domain, status, service in (("ase", "Placement", "Pôle de Forbach"), ("fsl", "En cours", "Cellule FSL")):
            crossdomain.publish(domain, f"D{person.pk}", person, status=status, service=service, since=since)
        crossdomain.publish(
            "ase", f"D{person.pk}", person, status="Placement judiciaire", service="Pôle de Forbach", since=since
        )
    return person


@pytest.mark.parametrize(
    ("said", "records", "changes"),
    [(None, ["fsl"], 1), ("", ["fsl"], 1), ("pmi", ["fsl"], 1), ("ase", ["ase", "fsl"], 3)],
)
def test_nobody_reads_a_protected_record_or_its_history_without_its_domain(cluster, placed, said, records, changes):
    for user in ("sias_app", "sias_owner"):
        with cluster.connect(user=user) as connection, connection.transaction():
            if said is not None:
                connection.execute("SELECT set_config('sias.domaines', %s, TRUE)", [said])
            ask = "SELECT domain FROM crossdomain_involvement WHERE person_id = %s ORDER BY domain"
            assert [row[0] for row in connection.execute(ask, [placed.pk])] == records
            ask = "SELECT count(*) FROM history_change WHERE person_id = %s AND table_name = 'crossdomain_involvement'"
            assert connection.execute(ask, [placed.pk]).fetchone() == (changes,)
            everything = connection.execute("SELECT count(*) FROM history_change WHERE person_id = %s", [placed.pk])
            assert everything.fetchone()[0] > changes  # what is not protected stays readable


def test_the_applications_role_owns_nothing_and_bypasses_nothing(cluster):
    assert cluster.sql("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = 'sias_app'") == [(False, False)]
    owned = "SELECT relname FROM pg_class WHERE relowner = 'sias_app'::regrole AND relkind IN ('r', 'p', 'v', 'S')"
    assert cluster.sql(owned) == []
    forced = "SELECT relname FROM pg_class WHERE relrowsecurity AND NOT relforcerowsecurity"
    assert cluster.sql(forced) == []


@pytest.mark.parametrize(("profile", "told"), [("RA", True), ("DP", True), ("TS", False), ("ME", False)])
def test_a_filter_forgotten_in_the_code_shows_no_protected_record(placed, monkeypatch, profile, told):
    monkeypatch.setattr("sias.crossdomain.panels.can", lambda *_: True)  # the omission
    page = browser(fresh(profile)).get(placed.get_absolute_url()).content.decode()
    assert ("Placement judiciaire" in page) is told
    assert ("Suivi protégé" in page) is not told
    assert "Pôle de Forbach" in page  # whom to call
    assert "Cellule FSL" in page


def test_history_pages_follow_row_level_security(placed):
    path = f"{placed.get_absolute_url()}historique/"
    assert "Placement judiciaire" in browser(fresh("RA")).get(path).content.decode()
    page = browser(fresh("TS")).get(path)
    assert page.status_code == 200
    assert "Placement" not in page.content.decode()


def test_whoever_merges_leaves_no_protected_record_behind(placed, client, identity, cluster):
    sent = identity | {"birth_name": placed.birth_name + "X", "idempotency_key": uuid.uuid4().hex}
    answer = client.post("/personnes/nouvelle/", sent)
    other = Person.objects.get(pk=int(answer["Location"].rstrip("/").rsplit("/", 1)[-1]))
    made = merging.merge(merging.Kind.PERSON, other.pk, placed.pk, agent=fresh("TS"), reason="même personne")
    ask = "SELECT person_id FROM crossdomain_involvement WHERE domain = 'ase' AND reference = %s"
    reference = f"D{placed.pk}"
    assert cluster.sql(ask, [reference]) == [(other.pk,)]
    merging.unmerge(made, fresh("TS"))
    assert cluster.sql(ask, [reference]) == [(placed.pk,)]


def test_a_copy_for_the_person_holds_what_its_maker_may_not_read(placed):
    assert "Placement judiciaire" in str(export(placed))


def test_being_followed_by_a_protected_domain_is_an_activity(placed):
    later = timezone.localdate() + timedelta(days=1500)
    Involvement.objects.filter(person=placed, domain="fsl").delete()
    before = run(later, wet=False).anonymised
    with acting_for_nobody("ase"):
        crossdomain.withdraw("ase", f"D{placed.pk}")
    assert run(later, wet=False).anonymised == before + 1


def test_a_domain_that_the_database_does_not_protect_is_not_registered_as_protected():
    with pytest.raises(LookupError, match="PROTECTED"):
        crossdomain.register("fsl", "Logement", protected=True)


def test_a_setting_is_quoted():
    with (
        session_settings(domaines="a'; DROP TABLE x; --"),
        transaction.atomic(),
        connections["default"].cursor() as cursor,
    ):
        cursor.execute("SELECT current_setting('sias.domaines')")
        assert cursor.fetchone() == ("a'; DROP TABLE x; --",)


# --- the table and the dictionaries ----------------------------------------------------------------------------------
def test_the_nine_target_profiles_are_there_and_the_fourteen_former_ones_lead_to_them():
    target = [code for code, one in TABLE.profiles.items() if one.family not in {"Département", "Technique"}]
    assert len(target) == 9
    assert len(TABLE.former) == 14
    assert set(TABLE.former.values()) <= set(target)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lire = 'D -'", "2 letters for 3 profiles"),
        ("lire = 'D X -'", "each one of"),
    ],
)
def test_a_wrong_line_of_the_table_is_named(tmp_path, line, message):
    path = tmp_path / "habilitations.toml"
    path.write_text(f"profils = 'AN PD AS'\n[domaine.essai]\nnom = 'Essai'\n{line}\n")
    with pytest.raises(ImproperlyConfigured, match=message):
        tables.read([tables.CORE, path])


def test_the_organisation_of_the_department_is_seeded():
    assert Territory.objects.on().filter(kind="utas").count() == 12
    poles = Service.objects.on().filter(parent="DASE")
    assert poles.count() == 13
    assert {row.code for row in Service.objects.on().filter(parent="DG")} == {"DEFI", "DPA", "DALER"}
    assert Service.objects.on().filter(parent="DPMI").count() == 13  # a cell and the twelve UTAS
    codes = set(Service.objects.values_list("code", flat=True)) | {""}
    assert all(row.parent in codes for row in Service.objects.all())


def test_every_commune_has_one_utas():
    held = TerritoryCommune.objects.on().filter(territory__startswith="UTAS-").values_list("commune_id", flat=True)
    assert len(held) == len(set(held)) == 736 - 3


def test_the_database_allows_one_version_of_a_code_at_a_time_and_tells_the_past():
    code, day = uuid.uuid4().hex[:10], timezone.localdate()
    Service.objects.create(code=code, name="Ancien nom", kind="service", until=day)
    Service.objects.create(code=code, name="Nouveau nom", kind="service", since=day)
    assert Service.objects.on(day - timedelta(days=1)).get(code=code).name == "Ancien nom"
    assert Service.objects.on(day).get(code=code).name == "Nouveau nom"
    with pytest.raises(IntegrityError, match="one_version"), transaction.atomic():
        Service.objects.create(code=code, name="De trop", kind="service")
