"""The code base checked against itself: modules, migrations, theme, words of the pages."""

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import SOURCE, manage

SIAS = SOURCE / "sias"
CORE = {
    "platform",
    "journal",
    "history",
    "socle",
    "accounts",
    "habilitations",
    "repertoire",
    "crossdomain",
    "tasks",
    "households",
    "api",
    "reception",
}
# Who may import whom: modules stand on the core and never on each other.
MAY = {
    "platform": set(),
    "journal": {"platform"},
    "history": {"platform"},
    "socle": set(),
    "accounts": {"platform", "socle"},
    "habilitations": {"platform", "journal", "history", "socle", "accounts"},
    "repertoire": {"platform", "journal", "socle", "habilitations"},
    "reception": {"platform", "journal", "history", "habilitations", "repertoire", "tasks"},
    "api": {"platform", "habilitations", "journal", "repertoire", "crossdomain", "tasks"},
    "crossdomain": {"platform", "history", "habilitations", "repertoire"},
    "tasks": {"platform", "journal", "habilitations", "repertoire"},
    "households": {"platform", "journal", "history", "socle", "habilitations", "repertoire"},
}
EXCEPTIONS = {
    ("platform", "documents"),
    ("platform", "population"),
    ("platform", "repertoire"),
}  # only the command `stats`


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sias."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "sias":
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted(SIAS.glob("*/**/*.py")), ids=lambda path: str(path.relative_to(SIAS)))
def test_modules_depend_on_the_core_only(path):
    module = path.relative_to(SIAS).parts[0]
    allowed = MAY.get(module, CORE) | {module, "__version__"}
    used = imports(path)
    if path.name == "stats.py":
        used = {name for name in used if (module, name) not in EXCEPTIONS}
    assert used <= allowed, used - allowed


def test_no_migration_is_missing():
    done = manage("makemigrations", "--check", "--dry-run", check=False)
    assert done.returncode == 0, done.stdout


def test_functions_of_the_schema_name_their_schema():
    """PostgreSQL 17 runs maintenance with a restricted search_path."""
    for path in SIAS.glob("*/migrations/*.py"):
        for body in re.findall(r"\$\$(.*?)\$\$", path.read_text(), re.DOTALL):
            assert not re.search(r"\b(?:FROM|JOIN|INTO|UPDATE)\s+(?!public\.|pg_)[a-z_]+_[a-z]+", body), path


TEMPLATES = sorted((SIAS / "templates").rglob("*.html"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_control_of_a_template_has_a_label(path):
    text = path.read_text()
    for tag in re.findall(r"<(?:input|select|textarea)\b[^>]*>", text):
        if 'type="hidden"' in tag:
            continue
        identity = re.search(r'id="([^"]+)"', tag)
        assert identity, tag
        assert f'for="{identity.group(1)}"' in text, tag


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_post_carries_a_csrf_token_and_its_key(path):
    for form in re.findall(r"<form\b.*?</form>", path.read_text(), re.DOTALL):
        if re.search(r'method="post"', form):
            assert "csrf" in form
            if "sign_out" not in form and path.name != "sign_in.html":
                assert "idempotency_key" in form


def test_pages_can_be_used_from_the_keyboard(client):
    page = client.get("/repertoire/?q=muller").content.decode()
    assert page.index('class="skip" href="#contenu"') < page.index("<header")
    assert '<main id="contenu"' in page
    assert '<html lang="fr">' in page
    assert page.count("<h1>") == 1
    assert 'tabindex="1' not in page


CSS = (SIAS / "static/sias/sias.css").read_text()
COLOURS = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})", CSS))


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(COLOURS.get(one, one)), luminance(COLOURS.get(other, other))), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("ink", "ground"),
    [
        ("ink", "paper"),
        ("ink", "ground"),
        ("muted", "paper"),
        ("muted", "ground"),
        ("link", "paper"),
        ("link", "ground"),
        ("on-brand", "brand"),
        ("on-brand", "brand-dark"),
        ("on-brand-muted", "brand"),
        ("ok", "ok-ground"),
        ("near", "near-ground"),
        ("note", "note-ground"),
        ("bad", "bad-ground"),
        ("bad", "paper"),
        ("ink", "bad-ground"),
        ("ink", "ok-ground"),
        ("ink", "near-ground"),
        ("muted", "#f6f9fa"),
        ("#5f7077", "paper"),
        ("#3d2c00", "#ffd97a"),
        ("link", "bad-ground"),
        ("brand", "paper"),
        ("muted", "ok-ground"),
    ],
)
def test_text_stands_out(ink, ground):
    assert contrast(ink, ground) >= 4.5


@pytest.mark.parametrize(("mark", "ground"), [("focus", "paper"), ("focus", "ground"), ("line-strong", "paper")])
def test_marks_and_borders_stand_out(mark, ground):
    assert contrast(mark, ground) >= 3
