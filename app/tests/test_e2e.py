"""Main journeys in a real headless Chromium, against gunicorn: by mouse, by keyboard alone, and with axe-core.

Debian's chromium and chromium-driver; axe-core is vendored in vendor/ with its licences.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from http.client import HTTPException
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import ScryptPasswordHasher
from django.utils import timezone
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait
from sias.directory.models import GroupRule, Run, RunRow
from sias.evaluations.models import Answer
from sias.households.models import Move
from sias.notes.models import Note
from sias.repertoire.models import Membership, Person
from sias.socle.models import Service

from tests.conftest import PASSWORD, SOURCE, make_agent
from tests.test_duplicates import candidate, make

AXE = (Path(__file__).parent / "vendor/axe-core/axe.min.js").read_text()
WAIT = 10  # s for a page or a saved answer on a busy machine
START = 30  # s for gunicorn and for the browser
STOP = 60  # s for gunicorn, which waits 30 for a link that a browser left open

pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")), reason="apt-get install chromium chromium-driver"
)


@pytest.fixture(scope="module")
def server(database, tmp_path_factory):
    """The application under gunicorn on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": str(SOURCE),
        "SIAS_ALLOWED_HOSTS": "127.0.0.1",
        "SIAS_WEB_BIND": f"127.0.0.1:{port}",
        "SIAS_WEB_WORKERS": "1",
        "SIAS_WEB_RUNTIME": str(tmp_path_factory.mktemp("web")),
    }
    with (tmp_path_factory.mktemp("log") / "web.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "python:sias.gunicorn_conf"],
            cwd="/",
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        address = f"http://127.0.0.1:{port}"
        try:
            _wait(process, f"{address}/healthz/live", Path(log.name))
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=STOP)


def _wait(process: subprocess.Popen, address: str, log: Path) -> None:
    deadline = time.monotonic() + START
    while True:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=2):  # noqa: S310
                return
        except (OSError, HTTPException):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)  # between questions inside a deadline


@pytest.fixture(scope="module")
def worker(database) -> str:
    """An agent whose password the server can check (the tests' own hasher is not among its)."""
    name = f"e2e{uuid.uuid4().hex[:8]}"
    password = ScryptPasswordHasher().encode(PASSWORD, uuid.uuid4().hex[:16])
    made = make_agent(name, "TS", first_name="Claude", last_name="Bureau", service="UTAS")
    get_user_model().objects.filter(pk=made.pk).update(password=password)
    return name


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,1000",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_page_load_timeout(START)
    yield driver
    driver.quit()


class Desk:
    """What an agent does at the screen."""

    def __init__(self, driver: webdriver.Chrome, address: str) -> None:
        self.driver, self.address = driver, address

    def open(self, path: str) -> None:
        self.driver.get(self.address + path)

    def until(self, question, message: str = ""):
        return WebDriverWait(self.driver, WAIT, poll_frequency=0.05).until(lambda _driver: question(), message)

    def find(self, selector: str) -> WebElement:
        return self.until(lambda: (self.driver.find_elements(By.CSS_SELECTOR, selector) or [None])[0], selector)

    def see(self, words: str) -> None:
        self.until(lambda: words in self.words, f"{words!r} is not on {self.driver.current_url}: {self.words[:600]}")

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", self.driver.execute_script("return document.body.innerText"))

    def click(self, words: str) -> None:
        self.until(
            lambda: [
                element
                for element in self.driver.find_elements(By.CSS_SELECTOR, "a, button, summary, label")
                if element.is_displayed() and words in element.text
            ],
            words,
        )[0].click()

    def press(self, *keys: str) -> None:
        """Type into whatever has the focus: no mouse."""
        ActionChains(self.driver).send_keys(*keys).perform()

    @property
    def focused(self) -> WebElement:
        return self.driver.switch_to.active_element

    def tab_to(self, selector: str, most: int = 80) -> None:
        """Press Tab until what is asked for has the focus."""
        for _ in range(most):
            if self.driver.execute_script("return document.activeElement.matches(arguments[0])", selector):
                return
            self.press(Keys.TAB)
        raise AssertionError(f"{most} times Tab and no {selector}")

    def accessible(self) -> None:
        """axe-core finds nothing against WCAG 2.2 AA."""
        self.driver.execute_script(AXE)
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']})"
            ".then((result) => done(result.violations.map((v) => [v.id, v.help, v.nodes.map((n) => n.html)])));"
        )
        assert not found, (self.driver.current_url, found)


@pytest.fixture
def desk(browser, server, worker):
    """Signed in, keyboard alone; the session lasts for all tests, as it does for a working day."""
    made = Desk(browser, server)
    if browser.get_cookie("sias_session"):
        return made
    made.open("/connexion/")
    made.tab_to("[name=username]")
    made.press(worker, Keys.TAB, PASSWORD, Keys.ENTER)
    made.see("Claude Bureau")
    return made


@pytest.fixture
def desk_of(browser, server):
    """Sign in as an agent who holds a profile; the browser forgets them at the end."""

    def made(profile: str) -> Desk:
        name = f"e2e{uuid.uuid4().hex[:8]}"
        agent = make_agent(name, profile, first_name="Sacha", last_name="Poste")
        password = ScryptPasswordHasher().encode(PASSWORD, uuid.uuid4().hex[:16])
        get_user_model().objects.filter(pk=agent.pk).update(password=password)
        desk = Desk(browser, server)
        desk.open("/connexion/")
        browser.delete_all_cookies()
        desk.open("/connexion/")
        desk.tab_to("[name=username]")
        desk.press(name, Keys.TAB, PASSWORD, Keys.ENTER)
        desk.see("Sacha Poste")
        return desk

    yield made
    browser.delete_all_cookies()


def household(person: Person) -> str:
    return person.memberships.get(until=None).household.get_absolute_url()


def test_by_keyboard_from_sign_in_to_the_household_file(desk, person):
    desk.open("/repertoire/")
    desk.press("/")
    desk.press(person.birth_name, Keys.ENTER)
    desk.see(person.number)
    desk.tab_to(".results a")
    desk.press(Keys.ENTER)
    desk.see("Dernière mise à jour le")
    desk.tab_to("section a[href^='/foyers/']")
    desk.press(Keys.ENTER)
    desk.see("Femme seule, 1 adulte – 0 mineur")
    desk.tab_to(".filetabs a[href$='/situation/']")
    desk.press(Keys.ENTER)
    desk.see("Précarité liée au logement")


def test_by_keyboard_an_answer_saves_itself(desk, person):
    desk.open(f"{household(person)}situation/")
    desk.tab_to("#q-qualification")
    desk.press("Boulangère", Keys.TAB)
    desk.see("Toutes les informations sont sauvegardées. Dernière mise à jour le")
    desk.until(lambda: Answer.objects.filter(question="qualification", value="Boulangère").exists())
    desk.driver.refresh()
    assert desk.find("#q-qualification").get_attribute("value") == "Boulangère"


def test_an_impossible_answer_is_said_at_its_field_and_kept(desk, person):
    desk.open(f"{household(person)}situation/")
    desk.find("#q-hebergement_depuis").send_keys("31/02/2026", Keys.TAB)
    desk.see("« 31/02/2026 » n'est pas une date")
    assert desk.find("#sauvegarde").text == "Une réponse n'est pas enregistrée : elle est signalée en rouge."
    field = desk.find("#q-hebergement_depuis")
    assert field.get_attribute("value") == "31/02/2026"
    desk.accessible()
    field.clear()
    field.send_keys("28/02/2026", Keys.TAB)
    desk.see("Toutes les informations sont sauvegardées. Dernière mise à jour le")


def test_of_two_editors_the_second_sees_both_answers_and_chooses(desk, person, client):
    desk.open(f"{household(person)}situation/")
    client.post(
        f"{household(person)}situation/reponses/",
        {"reponse-qualification": "Soudeuse", "base-qualification": "null", "idempotency_key": uuid.uuid4().hex},
    )
    desk.find("#q-qualification").send_keys("Maçonne", Keys.TAB)
    desk.see("Alex Agent a répondu autre chose")
    desk.accessible()
    desk.click("Garder la mienne : Maçonne")
    desk.see("Toutes les informations sont sauvegardées. Dernière mise à jour le")
    assert Answer.objects.get(household=person.memberships.get().household, question="qualification").value == "Maçonne"


def test_by_mouse_a_person_moves_and_comes_back(desk, person):
    Membership.objects.filter(person=person).update(since="2024-01-01")
    source = household(person)
    desk.open(source)
    desk.click("Déplacer une personne")
    desk.click(str(person))
    desk.find("#id_reason option[value=separation]").click()
    desk.accessible()
    desk.find("main form button[type=submit]").click()
    desk.see("1 personne déplacée")
    assert household(person) != source
    desk.click("Suivi et modification")
    desk.accessible()
    desk.click("Annuler ce changement")
    desk.see("tout est revenu comme avant")
    assert household(person) == source
    assert Move.objects.get(source__memberships__person=person).undone_at


def test_by_keyboard_an_alert_is_written_and_stands_above_the_file(desk, person):
    desk.open(f"{household(person)}notes/nouvelle/?type=alerte")
    body = f"Chien dangereux {uuid.uuid4().hex[:6]}"
    desk.tab_to("[name=body]")
    desk.press(body)
    desk.tab_to("main button[type=submit]")
    desk.press(Keys.ENTER)
    desk.see(body)
    assert Note.objects.get(body=body).kind == "alerte"
    desk.open(household(person))
    desk.see(body)


def test_by_mouse_two_files_become_one_and_two_again(desk, client, identity):
    kept = make(client, identity, phone="0387303030")
    gone = make(client, identity, birth_name=identity["birth_name"][:-1] + "Z", usage_name="AUTRE")
    desk.open(f"/doublons/{candidate(kept, gone).pk}/")
    desk.find(f"#garder-{kept.pk}").click()
    desk.find(f"#champ-usage_name-{gone.pk}").click()
    desk.accessible()
    desk.click("Fusionner les deux fiches")
    desk.see("est fusionné dans cette fiche")
    kept.refresh_from_db()
    assert kept.usage_name == "AUTRE"
    desk.open("/fusions/")
    desk.click("Annuler cette fusion")
    desk.see("La fusion est annulée")
    assert Person.objects.filter(pk__in=[kept.pk, gone.pk]).count() == 2


@pytest.mark.parametrize(
    "path",
    ["", "identite/", "situation/", "evaluations/", "notes/", "notes/nouvelle/", "suivi/", "etat/?le=24/11/2026"],
)
def test_the_pages_of_the_file_are_accessible(desk, person, path):
    desk.open(household(person) + path)
    desk.see("Ménage")
    desk.accessible()


@pytest.mark.parametrize(
    "path", ["/repertoire/?q=muller", "/personnes/1/", "/doublons/", "/fusions/", "/personnes/nouvelle/"]
)
def test_the_other_main_pages_are_accessible(desk, path):
    desk.open(path)
    desk.accessible()


def test_by_keyboard_an_administrator_imports_services_and_takes_the_rejects_away(desk_of, tmp_path):
    desk = desk_of("AN")
    code = f"E2E{uuid.uuid4().hex[:6].upper()}"
    file = tmp_path / "services.csv"
    file.write_text(
        f"code;nom;nature;superieur\n{code};Cellule du navigateur;cellule;DPA\n{code}-B;Sans toit;cellule;NULLE-PART\n"
    )
    desk.open("/dictionnaires/")
    desk.press("j")
    desk.press(Keys.ENTER)
    desk.see("services en vigueur le")
    desk.accessible()
    desk.press("j", "j")
    assert "/dictionnaires/services/entree/" in desk.focused.get_attribute("href")
    desk.driver.refresh()
    desk.tab_to("a[href$='/importer/']")
    desk.press(Keys.ENTER)
    desk.see("Rien ne change avant que vous ayez vu l'aperçu")
    desk.accessible()
    desk.find("[type=file]").send_keys(str(file))
    desk.tab_to("main button[type=submit]")
    desk.press(Keys.ENTER)
    desk.see("rien n'est encore écrit")
    desk.see("n'est pas au dictionnaire")
    assert desk.find("a[href$='/rejets.csv']").is_displayed()
    desk.accessible()
    desk.tab_to("button[value=appliquer]")
    desk.press(Keys.ENTER)
    desk.see("Import appliqué : 1 entrée écrite, 1 ligne rejetée.")
    desk.open("/dictionnaires/services/")
    desk.see("Cellule du navigateur")
    desk.click("Cellule du navigateur")
    desk.see("1 version")
    desk.accessible()
    desk.click("Modifier")
    desk.find("[name=name]").clear()
    desk.find("[name=name]").send_keys("Cellule renommée")
    desk.accessible()
    desk.click("Enregistrer")
    desk.see("Services : enregistré, à partir du")
    assert Service.objects.on().get(code=code).name == "Cellule renommée"


@pytest.mark.parametrize(
    "path", ["", "territoires/", "nomenclature/", "agents/", "territoires/entree/UTAS-METZ/", "communes/?q=metz"]
)
def test_the_dictionaries_are_accessible(desk, path):
    desk.open(f"/dictionnaires/{path}")
    desk.accessible()


def test_the_pages_of_the_directory_are_accessible(desk_of):
    desk = desk_of("AN")
    GroupRule.objects.get_or_create(group="sias-medecins", profile="ME", territory="57")
    run = Run.objects.create(
        state=Run.State.REFUSED, ended_at=timezone.now(), problem="9 agents perdraient leur accès.",
        counts={"lus": 3, "inchanges": 1, "parti": 9, "prives": 9}, groups={"sias-pmi": 3},
    )  # fmt: skip
    RunRow.objects.create(
        run=run, username="kweber", dn="uid=kweber", verdict="modifie", differences=[["Nom", "Weber", "Klein"]]
    )
    for path in ("", f"passages/{run.pk}/", "correspondances/", "correspondances/nouvelle/"):
        desk.open(f"/annuaire/{path}")
        desk.accessible()
    desk.open("/annuaire/")
    desk.press("j")
    desk.press(Keys.ENTER)
    desk.see("Ces départs sont-ils vrais ?")
    desk.see("Nom : Weber → Klein")


def test_by_keyboard_a_file_is_made_confidential_and_opened_again(desk, worker, person):
    desk.open(person.get_absolute_url())
    desk.tab_to("a[href$='/confidentialite/']")
    desk.press(Keys.ENTER)
    desk.see("Qui l'ouvrirait encore")
    desk.accessible()
    desk.tab_to("[name=motif]")
    desk.press("Violences conjugales signalées")
    desk.tab_to("button[value=poser]")
    desk.press(Keys.ENTER)
    desk.see("la fiche est confidentielle")
    desk.see("Claude Bureau désigné")
    desk.accessible()
    desk.open(person.get_absolute_url())
    desk.see("Fiche confidentielle depuis le")
    desk.accessible()
    desk.click("Voir qui l'ouvre")
    desk.find("[name=motif]").clear()
    desk.find("[name=motif]").send_keys("Ordonnance de protection levée")
    desk.click("Lever la confidentialité")
    desk.see("n'est plus confidentielle")


def test_by_keyboard_a_text_keeps_itself_as_a_draft(desk, person):
    desk.open(f"{household(person)}notes/nouvelle/")
    words = f"Entretien interrompu {uuid.uuid4().hex[:6]}"
    desk.tab_to("[name=body]")
    desk.press(words)
    desk.see("Toutes les informations sont sauvegardées. Brouillon gardé le")
    desk.open(f"{household(person)}notes/nouvelle/")  # no question asked: nothing would be lost
    desk.see("Voici votre brouillon du")
    assert desk.find("[name=body]").get_attribute("value") == words
    desk.accessible()
    desk.click("Le jeter")
    desk.until(lambda: not desk.find("[name=body]").get_attribute("value"))


def test_of_two_who_edit_a_person_the_second_chooses_field_by_field(desk, client, person):
    desk.open(f"{person.get_absolute_url()}modifier/")
    form = client.get(f"{person.get_absolute_url()}modifier/").context["form"]
    theirs = {name: form[name].value() or "" for name in form.fields} | {"birth_date": "14/07/1980"}
    theirs |= {"address": "2 rue Serpenoise", "email": "elle@moselle.example", "idempotency_key": uuid.uuid4().hex}
    assert client.post(f"{person.get_absolute_url()}modifier/", theirs).status_code == 302
    desk.find("[name=address]").clear()
    desk.find("[name=address]").send_keys("3 place d'Armes")
    desk.click("Enregistrer")
    desk.see("Repris de sa modification, vous n'y aviez pas touché : Courriel.")
    desk.accessible()
    desk.tab_to("[name=choix-address]")
    desk.press(Keys.ARROW_DOWN)  # the second of the two
    desk.click("Enregistrer")
    desk.see("Rien n'avait changé.")  # all of it was the other one's
    person.refresh_from_db()
    assert (person.address, person.email) == ("2 rue Serpenoise", "elle@moselle.example")
