"""The repository about itself: what one part says of another is true."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from siasops.inventory import ROOT

PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
ROLES = sorted(p for p in (ROOT / "roles").iterdir() if p.is_dir())


def tracked(*patterns: str) -> list[Path]:
    """Files that git tracks or would: what a clone holds."""
    listed = subprocess.run(
        [
            "git",
            "-c",
            f"safe.directory={ROOT}",
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "--",
            *patterns,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


def imports(path: Path) -> set[str]:
    """Top-level names of the modules that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda p: p.name)
class TestPlaybooks:
    def test_every_play_stops_everywhere_on_an_error_and_is_a_numbered_sentence(self, playbook: Path) -> None:
        plays = yaml.safe_load(playbook.read_text(encoding="utf-8"))
        for number, play in enumerate(plays, start=1):
            assert play.get("any_errors_fatal") is True, f"play {number} of {playbook.name} goes on after an error"
            assert play["name"].startswith(f"({number}/{len(plays)}) "), f"{playbook.name}: {play['name']}"

    def test_it_is_documented_by_a_procedure(self, playbook: Path) -> None:
        text = (ROOT / "runbooks" / "procedures" / f"{playbook.stem}.md").read_text(encoding="utf-8")
        for section in ("## Scope", "## Preparation", "## Steps", "## Rollback", "## Post checks"):
            assert section in text, f"runbooks/procedures/{playbook.stem}.md lacks “{section}”"

    def test_it_never_ignores_an_error(self, playbook: Path) -> None:
        assert "ignore_errors" not in playbook.read_text(encoding="utf-8")


@pytest.mark.parametrize("role", ROLES, ids=lambda p: p.name)
class TestRoles:
    def test_it_is_used_by_a_playbook_or_a_role(self, role: Path) -> None:
        sources = [*PLAYBOOKS, *(ROOT / "roles").glob("*/tasks/*.yml"), *(ROOT / "roles").glob("*/meta/main.yml")]
        used = re.compile(rf"\b(role|name): {re.escape(role.name)}\b")
        assert any(used.search(p.read_text(encoding="utf-8")) for p in sources), f"nothing uses roles/{role.name}"

    def test_it_names_no_host(self, role: Path) -> None:
        for path in [p for p in role.rglob("*") if p.is_file() and p.suffix in {".yml", ".j2"}]:
            named = re.findall(r"\b(?:db|app)-[ab]\d\b", path.read_text(encoding="utf-8"))
            assert not named, f"{path.relative_to(ROOT)} names {sorted(set(named))}; a role knows groups only"

    def test_it_ignores_no_error_and_never_just_sleeps(self, role: Path) -> None:
        for path in role.rglob("*.yml"):
            text = path.read_text(encoding="utf-8")
            assert "ignore_errors" not in text, path
            assert not re.search(r"^\s*(ansible\.builtin\.)?pause:", text, re.MULTILINE), path


@pytest.mark.parametrize("path", sorted((ROOT / "roles").glob("*/defaults/main.yml")), ids=lambda p: p.parts[-3])
def test_defaults_carry_their_role_s_name_and_say_what_they_do(path: Path) -> None:
    role, text = path.parts[-3], path.read_text(encoding="utf-8")
    for key in yaml.safe_load(text) or {}:
        assert key.startswith(f"{role}_"), f"{key} in {path} lacks its role's name"
    assert "#" in text, f"{path} explains nothing"


def test_parts_import_one_way() -> None:
    allowed_everywhere = {"siasops"}
    for path in tracked("siasops/*.py", "siasops/**/*.py"):
        assert not imports(path) & {"sias", "tests", "loadtests", "app"}, f"{path} reaches out of siasops"
    for path in tracked("app/src/*.py", "app/src/**/*.py"):
        assert not imports(path) & (allowed_everywhere | {"tests", "loadtests"}), f"{path} reaches out of app"


def test_no_file_names_a_registry_a_mirror_or_a_path_of_one_machine() -> None:
    # Written in pieces, so that this file does not find itself.
    forbidden = [
        "pypi" + ".org",
        "files.python" + "hosted",
        "registry." + "npmjs",
        "deb.debian" + ".org",
        "galaxy.ansible" + ".com",
        "/work" + "/",
        "/root/." + "pyenv",
        "rubygems" + ".org",
    ]
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in tracked()
        if path.suffix not in {".png", ".woff2", ".ico"}
        for word in forbidden
        if word in path.read_text(encoding="utf-8", errors="replace")
    ]
    assert not found


def test_no_secret_is_tracked() -> None:
    for path in tracked():
        text = path.read_bytes()
        assert b"PRIVATE KEY" + b"-----" not in text, f"{path.relative_to(ROOT)} holds a private key"


def test_collections_named_are_those_used_and_those_installed() -> None:
    wanted = {c["name"]: c["version"] for c in yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]}
    used = set()
    for path in [*PLAYBOOKS, *(ROOT / "roles").rglob("*.yml")]:
        used |= set(re.findall(r"^\s*(?:- )?(\w+\.\w+)\.\w+:", path.read_text(encoding="utf-8"), re.MULTILINE))
    used -= {"ansible.builtin"}
    configured = re.findall(r"callbacks_enabled = (\w+\.\w+)\.", (ROOT / "ansible.cfg").read_text(encoding="utf-8"))
    assert set(wanted) == used | set(configured)
    import ansible_collections  # noqa: PLC0415

    home = Path(next(iter(ansible_collections.__path__)))
    for name, version in wanted.items():
        manifest = yaml.safe_load((home / name.replace(".", "/") / "MANIFEST.json").read_text(encoding="utf-8"))
        assert manifest["collection_info"]["version"] == str(version), name


def test_make_help_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = set(re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE))
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in phony:
        assert re.search(rf"^  make {target} ", told, re.MULTILINE), f"make help does not tell of {target}"


def test_folders_of_the_map_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for folder in re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE):
        if folder != "var":
            assert (ROOT / folder).is_dir(), folder


def commands_quoted() -> list[tuple[str, str]]:
    """Each `sias …` and `make …` that the documents tell people to type."""
    found = []
    for path in tracked("README.md", "ARCHITECTURE.md", "runbooks/*.md", "runbooks/**/*.md", "monitoring/**/*.md"):
        text = path.read_text(encoding="utf-8")
        for block in re.findall(r"```(?:\w*)\n(.*?)```|`([^`\n]+)`", text, re.DOTALL):
            for line in "".join(block).splitlines():
                words = re.sub(r"^[$#] ", "", line.strip())
                if re.match(r"(sias|make) [a-z]", words):
                    found.append((str(path.relative_to(ROOT)), words))
    return found


def test_every_command_that_the_documents_quote_exists() -> None:
    import click  # noqa: PLC0415

    from siasops.cli import sias  # noqa: PLC0415

    quoted = commands_quoted()
    assert quoted
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for where, line in quoted:
        words = line.split("#")[0].split()
        if words[0] == "make":
            assert words[1] in targets, f"{where}: {line}"
            continue
        command: click.Command | None = sias
        for word in words[1:]:
            if not isinstance(command, click.Group) or not re.fullmatch(r"[a-z][a-z-]*", word):
                break
            command = command.get_command(click.Context(command), word)
            assert command is not None, f"{where}: “{line}”: there is no “{word}”"
        known = {o for p in (command.params if command else []) for o in (*p.opts, *p.secondary_opts)} | {
            "--help",
            "-h",
        }
        for option in [w.split("=")[0] for w in words if w.startswith("--")]:
            assert option in known, f"{where}: “{line}”: no option {option}"
