"""Dictionaries: what is in force on a day, versions, changes by hand, imports with preview and rejects."""

import csv
import io
import uuid
from datetime import date, timedelta

import pytest
from django.contrib.auth import get_user_model
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils.timezone import localdate
from sias.accounts.models import Posting
from sias.accounts.postings import settle
from sias.dictionaries.catalogue import DICTIONARIES
from sias.dictionaries.models import Import, ImportRow
from sias.habilitations.rights import can
from sias.history.models import Change
from sias.repertoire.models import Person
from sias.socle.models import BudgetLine, Service, Territory, TerritoryCommune

from tests.conftest import make_agent, sign_in


def word() -> str:
    return f"T{uuid.uuid4().hex[:10].upper()}"


@pytest.fixture(scope="module")
def administrator(database) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(make_agent(f"d{uuid.uuid4().hex[:10]}", "AN"))
    return client


def post(client: Client, path: str, **data: object):
    return client.post(path, {"idempotency_key": uuid.uuid4().hex, **data})


def drop(client: Client, dictionary: str, content: str | bytes, since: date | None = None, **more: object):
    content = content.encode() if isinstance(content, str) else content
    return post(
        client,
        f"/dictionnaires/{dictionary}/importer/",
        fichier=SimpleUploadedFile("fichier.csv", content),
        since=f"{since or localdate():%d/%m/%Y}",
        **more,
    )


def staged(client: Client, dictionary: str, content: str | bytes, **more: object) -> Import:
    response = drop(client, dictionary, content, **more)
    assert response.status_code == 302, response.content.decode()
    return Import.objects.latest("id")


def verdicts(batch: Import) -> dict[int, tuple[str, str]]:
    return {row.line: (row.verdict, row.reason) for row in batch.rows.all()}


def text(response) -> str:
    return " ".join(response.content.decode().replace("&#x27;", "'").split())


# --- what is shipped -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("services", "Direction de l'Enfance, de la Famille et de l'Insertion"),
        ("services", "Cellule Assistantes maternelles"),
        ("territoires", "UTAS-SARREGUEMINES"),
        ("territoires", "CANTON-5723"),
        ("secteurs", "UTAS-METZ"),
        ("communes", "Montigny-lès-Metz"),
        ("nomenclature", "Aides sociales à l'enfance"),
        ("agents", "Dominique"),
    ],
)
def test_the_departments_organisation_is_shown_to_whoever_works_there(code, words):
    query = {"q": "57463"} if code == "secteurs" else {"q": "montigny"} if code == "communes" else {}
    assert words in text(sign_in().get(f"/dictionnaires/{code}/", query))


def test_the_organisation_of_the_source_is_whole():
    assert Territory.objects.on().filter(kind="utas").count() == 12
    assert Territory.objects.on().filter(kind="canton").count() == 27
    assert Service.objects.on().filter(parent="DUTAS").count() == 13  # twelve UTAS and the specialised service
    assert Service.objects.on().filter(parent="DASE").count() == 13
    assert Service.objects.on().filter(parent="DIAL").count() == 7


def test_every_service_but_one_hangs_on_another_and_the_page_is_a_tree():
    codes = set(Service.objects.on().values_list("code", flat=True))
    roots = [service.code for service in Service.objects.on() if service.parent not in codes]
    assert "DG" in roots
    page = sign_in().get("/dictionnaires/services/").content.decode()
    assert page.index("Direction de la Politique") < page.index("Division de l&#x27;Autonomie")
    assert page.count("<ul>") > 5


def test_the_list_is_narrowed_by_words_nature_and_day():
    client = sign_in()
    page = text(client.get("/dictionnaires/territoires/", {"nature": "canton", "q": "saulnois"}))
    assert "1 entrée en vigueur" in page
    before = text(client.get("/dictionnaires/territoires/", {"nature": "canton", "jour": "01/01/2008"}))
    assert "Aucune entrée" in before  # the cantons of today begin in 2015
    wrong = client.get("/dictionnaires/territoires/", {"jour": "31/02/2008"})
    assert wrong.status_code == 200
    assert "n'est pas une date" in text(wrong)


@pytest.mark.parametrize("path", ["rien/", "services/entree/RIEN/", "nomenclature/entree/4213/", "communes/importer/"])
def test_what_does_not_exist_is_a_page_that_says_so(administrator, path):
    assert administrator.get(f"/dictionnaires/{path}").status_code == 404


def test_an_entry_shows_what_hangs_on_it():
    page = text(sign_in().get("/dictionnaires/services/entree/DEFI/"))
    assert "Division de la protection maternelle et infantile" in page
    page = text(sign_in().get("/dictionnaires/territoires/entree/UTAS-METZ/"))
    assert "57463" in page
    assert "Fermer" not in page  # a social worker only reads


# --- by hand ---------------------------------------------------------------------------------------------------------
def service(**values: object) -> Service:
    facts = {"code": word(), "name": "Cellule d'essai", "kind": "cellule", "parent": "DPA"}
    return Service.objects.create(**facts | values)


def entry_form(client: Client, path: str) -> dict:
    """What a browser sends back when it changes nothing."""
    form = client.get(path).context["form"]
    return {name: form[name].value() or "" for name in form.fields} | {"since": f"{form['since'].value():%d/%m/%Y}"}


def test_a_new_version_leaves_yesterday_as_it_was(administrator):
    made = service()
    path = f"/dictionnaires/services/entree/{made.code}/"
    form = entry_form(administrator, f"{path}modifier/") | {"name": "Cellule renommée"}
    assert post(administrator, f"{path}modifier/", **form).status_code == 302
    versions = list(Service.objects.filter(code=made.code).order_by("since"))
    assert [(one.name, one.since, one.until) for one in versions] == [
        ("Cellule d'essai", made.since, localdate()),
        ("Cellule renommée", localdate(), None),
    ]
    yesterday = f"{localdate() - timedelta(days=1):%d/%m/%Y}"
    assert "Cellule d'essai" in text(administrator.get("/dictionnaires/services/", {"q": made.code, "jour": yesterday}))
    assert "Cellule renommée" in text(administrator.get("/dictionnaires/services/", {"q": made.code}))
    assert Change.objects.filter(table_name="socle_service", row_id=str(made.pk)).exists()


def test_a_version_that_begins_the_same_day_is_corrected(administrator):
    made = service(since=localdate())
    path = f"/dictionnaires/services/entree/{made.code}/modifier/"
    assert post(administrator, path, **entry_form(administrator, path) | {"name": "Corrigée"}).status_code == 302
    assert list(Service.objects.filter(code=made.code).values_list("name", "since")) == [("Corrigée", localdate())]


def test_a_change_may_be_prepared(administrator):
    made, later = service(), localdate() + timedelta(days=30)
    path = f"/dictionnaires/services/entree/{made.code}/modifier/"
    form = entry_form(administrator, path) | {"name": "Demain", "since": f"{later:%d/%m/%Y}"}
    assert post(administrator, path, **form).status_code == 302
    assert Service.objects.on().get(code=made.code).name == "Cellule d'essai"
    assert Service.objects.on(later).get(code=made.code).name == "Demain"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parent": "NULLE-PART"}, "n'est pas au dictionnaire"),
        ({"name": ""}, "obligatoire"),
        ({"since": "31/02/2026"}, "31/12/2026"),
        ({"since": "01/01/1850"}, "À deux ans d'aujourd'hui"),
        ({"until": f"{localdate():%d/%m/%Y}"}, "La fin doit suivre le début"),
        ({"territory": "UTAS-PARIS"}, "n'est pas au dictionnaire"),
    ],
)
def test_what_cannot_stand_is_refused_and_kept_on_the_page(administrator, changes, message):
    made = service()
    path = f"/dictionnaires/services/entree/{made.code}/modifier/"
    response = post(administrator, path, **entry_form(administrator, path) | {"kind": "à garder"} | changes)
    assert response.status_code == 422
    assert message in text(response)
    assert "à garder" in text(response)
    assert Service.objects.get(code=made.code).kind == "cellule"


def test_a_service_is_never_above_itself(administrator):
    top = service()
    below = service(parent=top.code)
    path = f"/dictionnaires/services/entree/{top.code}/modifier/"
    response = post(administrator, path, **entry_form(administrator, path) | {"parent": below.code})
    assert response.status_code == 422
    assert "au-dessus d'elle-même" in text(response)


def test_two_who_edit_an_entry_do_not_overwrite_each_other(administrator):
    made = service()
    path = f"/dictionnaires/services/entree/{made.code}/modifier/"
    mine = theirs = entry_form(administrator, path)
    assert post(administrator, path, **theirs | {"name": "La sienne"}).status_code == 302
    response = post(administrator, path, **mine | {"name": "La mienne"})
    assert response.status_code == 409
    assert "La mienne" in text(response)
    again = {name: response.context["form"][name].value() for name in ("seen",)}
    assert post(administrator, path, **mine | {"name": "La mienne"} | again).status_code == 302
    assert Service.objects.on().get(code=made.code).name == "La mienne"


def test_a_key_is_created_once(administrator):
    made = service()
    form = {"code": made.code, "name": "Autre", "kind": "cellule", "since": f"{localdate():%d/%m/%Y}"}
    response = post(administrator, "/dictionnaires/services/nouvelle/", **form)
    assert response.status_code == 422
    assert "existe déjà" in text(response)
    assert post(administrator, "/dictionnaires/services/nouvelle/", **form | {"code": word()}).status_code == 302


def test_an_entry_is_ended_unless_something_hangs_on_it(administrator):
    top = service()
    below = service(parent=top.code)
    day = {"day": f"{localdate():%d/%m/%Y}"}
    refused = post(administrator, f"/dictionnaires/services/entree/{top.code}/fermer/", **day)
    assert refused.status_code == 422
    assert "services (1)" in text(refused)
    assert post(administrator, f"/dictionnaires/services/entree/{below.code}/fermer/", **day).status_code == 302
    assert post(administrator, f"/dictionnaires/services/entree/{top.code}/fermer/", **day).status_code == 302
    assert not Service.objects.on().filter(code__in=[top.code, below.code]).exists()
    assert Service.objects.on(localdate() - timedelta(days=1)).filter(code=top.code).exists()


def test_the_database_refuses_two_versions_at_a_time():
    made = service()
    with pytest.raises(IntegrityError, match="one_version"), transaction.atomic():
        service(code=made.code, since=localdate())


def test_a_nature_and_a_function_may_bear_the_same_code():
    code = word()[:8]
    BudgetLine.objects.create(kind="nature", code=code, label="une nature")
    BudgetLine.objects.create(kind="fonction", code=code, label="une fonction")
    assert "une fonction" in text(sign_in().get(f"/dictionnaires/nomenclature/entree/fonction:{code}/"))


def test_only_who_may_import_changes_a_dictionary():
    made = service()
    for path in (
        "services/importer/",
        "services/nouvelle/",
        f"services/entree/{made.code}/modifier/",
        f"services/entree/{made.code}/fermer/",
    ):
        assert post(sign_in(), f"/dictionnaires/{path}").status_code == 403


# --- imports ---------------------------------------------------------------------------------------------------------
def test_a_file_is_looked_at_then_applied(administrator):
    new, changed, same = word(), service(), service()
    content = (
        "code;nom;nature;superieur;territoire\r\n"
        f"{new};Pôle neuf;pôle;DPA;UTAS-METZ\r\n"
        f"{changed.code};Autre nom;cellule;DPA;\r\n"
        f"{same.code};Cellule d'essai;cellule;DPA;\r\n"
    )
    batch = staged(administrator, "services", content)
    assert {line: verdict for line, (verdict, _) in verdicts(batch).items()} == {
        2: "nouvelle",
        3: "modifiee",
        4: "inchangee",
    }
    page = text(administrator.get(f"/dictionnaires/imports/{batch.pk}/"))
    assert "rien n'est encore écrit" in page
    assert "Nom : Cellule d'essai → <strong>Autre nom</strong>" in page
    assert not Service.objects.filter(code=new).exists()
    assert post(administrator, f"/dictionnaires/imports/{batch.pk}/appliquer/", decision="appliquer").status_code == 302
    assert Service.objects.on().get(code=new).territory == "UTAS-METZ"
    assert Service.objects.on().get(code=changed.code).name == "Autre nom"
    assert Service.objects.filter(code=same.code).count() == 1
    batch.refresh_from_db()
    assert batch.state == Import.State.APPLIED
    assert "Import appliqué : 2 entrées écrites, 0 ligne rejetée" in text(
        administrator.get(f"/dictionnaires/imports/{batch.pk}/")
    )


def test_each_rejected_line_says_why_and_the_report_can_be_downloaded_again_and_sent_back(administrator):
    a, b, c = word(), word(), word()
    content = (
        "code;nom;nature;superieur;depuis\n"
        f"{a};Bon;pôle;DPA;\n"
        f"{a};Deux fois;pôle;DPA;\n"
        f"{b};=cmd|' /C calc'!A0;pôle;NULLE-PART;\n"
        f";Sans code;pôle;DPA;\n"
        f"{c};Date;pôle;DPA;31/02/2026\n"
        f"pas d'adresse/;Code;pôle;DPA;\n"
        f"{word()};{'x' * 151};pôle;{b};\n"
    )
    batch = staged(administrator, "services", content)
    found = verdicts(batch)
    assert found[2] == ("nouvelle", "")
    for line, words in {
        3: "Même clé que la ligne 2",
        4: "n'est pas au dictionnaire",
        5: "Code : manque",
        6: "n'est pas une date",
        7: "lettres, chiffres",
        8: "151 caractères, 150 au plus",
    }.items():
        assert found[line][0] == "rejetee"
        assert words in found[line][1]
    post(administrator, f"/dictionnaires/imports/{batch.pk}/appliquer/", decision="appliquer")
    assert Service.objects.on().filter(code=a).exists()
    assert not Service.objects.filter(code=b).exists()
    for _again in range(2):
        report = administrator.get(f"/dictionnaires/imports/{batch.pk}/rejets.csv")
        rows = list(csv.DictReader(io.StringIO(report.content.decode("utf-8-sig")), delimiter=";"))
        assert [int(row["ligne"]) for row in rows] == [3, 4, 5, 6, 7, 8]
        assert rows[1]["nom"].startswith("'=")  # no spreadsheet runs it
        assert all(row["motif"] for row in rows)
    corrected = report.content.decode("utf-8-sig").replace("NULLE-PART", "DPA")
    assert verdicts(staged(administrator, "services", corrected))[3][0] == "nouvelle"


def test_lines_may_refer_to_each_other_and_fall_together(administrator):
    top, below, lost = word(), word(), word()
    content = f"code;nom;nature;superieur\n{below};Sous;pôle;{top}\n{top};Haut;pôle;DG\n{lost};Perdue;pôle;{word()}\n"
    found = verdicts(staged(administrator, "services", content))
    assert [found[line][0] for line in (2, 3, 4)] == ["nouvelle", "nouvelle", "rejetee"]
    found = verdicts(staged(administrator, "services", content.replace("pôle;DG", f"pôle;{below}")))
    assert [found[line][0] for line in (2, 3, 4)] == ["rejetee"] * 3
    assert "au-dessus d'elle-même" in found[2][1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
@pytest.mark.parametrize("delimiter", [";", ",", "\t"])
def test_offices_encodings_and_separators_are_read(administrator, encoding, delimiter):
    code = word()
    content = f"code;nom;nature\n{code};Pôle éducatif;pôle\n".replace(";", delimiter).encode(encoding)
    batch = staged(administrator, "services", content)
    assert batch.rows.get().given["nom"] == "Pôle éducatif"
    assert verdicts(batch)[2][0] == "nouvelle"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "vide"),
        (b"\n\n", "vide"),
        (b"PK\x03\x04 un classeur", "pas un CSV"),
        (b"%PDF-1.7 une page", "pas un CSV"),
        (b"code;nom\0;nature", "pas un CSV"),
        (b"code;titre\nA;B\n", "Colonnes absentes : nom, nature"),
        (b"code;code;nom;nature\nA;B;C;D\n", "même nom"),
        (b"code;nom;nature\n", "que la ligne des colonnes"),
        (b'code;nom;nature\nA;"B;C\n', "pas un CSV lisible"),
        (b"code;nom;nature\n" + b"A;B;C\n" * 5001, "le maximum est 5000"),
    ],
    ids=["empty", "blank", "zip", "pdf", "nul", "columns", "twice", "no line", "quote", "long"],
)
def test_a_file_that_is_no_table_is_refused_in_words(administrator, content, message):
    before = Import.objects.count()
    response = drop(administrator, "services", content)
    assert response.status_code == 422
    assert message in text(response)
    assert Import.objects.count() == before


def test_a_preview_that_no_longer_holds_is_made_again_and_nothing_applied(administrator):
    made = service()
    batch = staged(administrator, "services", f"code;nom;nature;superieur\n{made.code};Du fichier;cellule;DPA\n")
    Service.objects.filter(pk=made.pk).update(name="Entre-temps")
    post(administrator, f"/dictionnaires/imports/{batch.pk}/appliquer/", decision="appliquer")
    page = text(administrator.get(f"/dictionnaires/imports/{batch.pk}/"))
    assert "Le dictionnaire a changé depuis l'aperçu" in page
    assert "Entre-temps → <strong>Du fichier</strong>" in page
    assert Service.objects.get(code=made.code).name == "Entre-temps"
    post(administrator, f"/dictionnaires/imports/{batch.pk}/appliquer/", decision="appliquer")
    assert Service.objects.on().get(code=made.code).name == "Du fichier"


def test_an_import_counts_once_and_an_abandoned_one_never(administrator):
    code = word()
    batch = staged(administrator, "services", f"code;nom;nature\n{code};Pôle;pôle\n")
    post(administrator, f"/dictionnaires/imports/{batch.pk}/appliquer/", decision="abandonner")
    post(administrator, f"/dictionnaires/imports/{batch.pk}/appliquer/", decision="appliquer")
    batch.refresh_from_db()
    assert batch.state == Import.State.ABANDONED
    assert not Service.objects.filter(code=code).exists()


def test_a_complete_list_ends_what_it_does_not_name_but_never_much_without_being_told_twice(administrator):
    axis = "nature"
    kept = list(BudgetLine.objects.on().filter(kind="fonction").values_list("code", "label", "parent"))
    lines = [f"fonction;{code};{label};{parent};M57" for code, label, parent in kept]
    content = "\n".join(["axe;code;libelle;superieur;plan", *lines]) + "\n"
    with transaction.atomic():
        ended = BudgetLine.objects.on().filter(kind=axis).count()
        batch = staged(administrator, "nomenclature", content, complete="on")
        assert batch.rows.filter(verdict=ImportRow.Verdict.ENDED).count() == ended
        path = f"/dictionnaires/imports/{batch.pk}/appliquer/"
        refused = post(administrator, path, decision="appliquer")
        assert refused.status_code == 422
        assert "Confirmez" in text(refused)
        assert BudgetLine.objects.on().filter(kind=axis).count() == ended
        assert post(administrator, path, decision="appliquer", certain="oui").status_code == 302
        assert not BudgetLine.objects.on().filter(kind=axis).exists()
        assert BudgetLine.objects.on(localdate() - timedelta(days=1)).filter(kind=axis).exists()
        transaction.set_rollback(True)


@pytest.mark.parametrize("code", [code for code in DICTIONARIES if code != "communes"])
def test_an_export_comes_back_as_an_import_that_changes_nothing(administrator, code):
    response = administrator.get(f"/dictionnaires/{code}/export.csv")
    assert response["Content-Type"].startswith("text/csv")
    if code == "agents":  # names of the tests' accounts are not all filled in
        return
    found = set(staged(administrator, code, response.content).rows.values_list("verdict", flat=True))
    assert found == {"inchangee"}


# --- agents ----------------------------------------------------------------------------------------------------------
def test_agents_are_imported_with_their_postings_and_cannot_sign_in_by_themselves(administrator):
    name = word().lower()
    content = (
        "identifiant;nom;prenom;courriel;service;fonction\n"
        f"{name};Schmitt;Élise;elise@moselle.example;UTAS-METZ;assistante sociale\n"
    )
    batch = staged(administrator, "agents", content)
    post(administrator, f"/dictionnaires/imports/{batch.pk}/appliquer/", decision="appliquer")
    agent = get_user_model().objects.get(username=name)
    assert agent.service == "UTAS de Metz"
    assert not agent.has_usable_password()
    assert not can(agent, "repertoire", "rechercher")
    moved = localdate() + timedelta(days=10)
    content = content.replace("UTAS-METZ", "UTAS-WOIPPY")
    batch = staged(administrator, "agents", content, since=moved)
    post(administrator, f"/dictionnaires/imports/{batch.pk}/appliquer/", decision="appliquer")
    assert list(agent.postings.order_by("since").values_list("service", "until")) == [
        ("UTAS-METZ", moved),
        ("UTAS-WOIPPY", None),
    ]
    agent.refresh_from_db()
    assert agent.service == "UTAS de Metz"
    settle(moved)
    agent.refresh_from_db()
    assert agent.service == "UTAS de Woippy"
    settle()
    assert name in text(administrator.get("/dictionnaires/services/entree/UTAS-METZ/"))


def test_an_agent_is_in_one_service_at_a_time():
    agent = make_agent(word().lower())
    Posting.objects.create(agent=agent, service="DG", since=localdate())
    with pytest.raises(IntegrityError, match="one_at_a_time"), transaction.atomic():
        Posting.objects.create(agent=agent, service="DPA", since=localdate() + timedelta(days=3))


def test_an_agent_whose_posting_ended_is_in_no_service():
    agent = make_agent(word().lower(), service="Direction de la Politique de l'Autonomie")
    Posting.objects.create(agent=agent, service="DPA", since=localdate() - timedelta(days=9), until=localdate())
    settle()
    agent.refresh_from_db()
    assert agent.service == ""


# --- what rights make of it ------------------------------------------------------------------------------------------
def test_a_sector_that_is_moved_by_an_import_moves_the_rights_with_it(administrator):
    code = word()
    Territory.objects.create(code=code, kind="commune", name="d'essai")
    TerritoryCommune.objects.create(territory=code, commune_id="57463")
    agent = make_agent(word().lower(), "TS", territory=code)
    person = Person.objects.filter(commune="57672").first()
    assert not can(agent, "repertoire", "lire", person)
    batch = staged(administrator, "secteurs", f"territoire;commune\n{code};57672\n")
    post(administrator, f"/dictionnaires/imports/{batch.pk}/appliquer/", decision="appliquer")
    assert can(get_user_model().objects.get(pk=agent.pk), "repertoire", "lire", person)


def test_a_canton_is_a_territory_that_rights_may_name():
    agent = make_agent(word().lower(), "TS", territory="CANTON-5723")
    inside = Person.objects.filter(
        commune__in=TerritoryCommune.objects.filter(territory="CANTON-5723").values("commune")
    )
    assert can(agent, "repertoire", "lire", inside.first())
    assert not can(agent, "repertoire", "lire", Person.objects.filter(commune="57463").first())
