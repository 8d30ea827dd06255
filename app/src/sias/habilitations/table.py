"""The table of rights, read once from the files `habilitations.toml` of the modules. Bad input stops the start."""

import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

FILE = "habilitations.toml"
CORE = Path(__file__).with_name(FILE)
NOTHING = "-"
REACHES = {"D": "département", "T": "territoire", "S": "service", "P": "soi-même"}


@dataclass(frozen=True)
class Profile:
    """What an agent is habilitated as."""

    code: str
    name: str
    family: str
    mission: str


@dataclass
class Domain:
    """A part of the information, and who may do what with it: {action: {profile: reach}}."""

    code: str
    name: str
    protected: bool
    actions: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass
class Table:
    """Everything that the files say."""

    profiles: dict[str, Profile]
    former: dict[str, str]
    domains: dict[str, Domain] = field(default_factory=dict)

    def reach(self, profile: str, domain: str, action: str) -> str:
        """Return D, T, S, P or - for a profile. Raises KeyError for what no file declares: a defect of the caller."""
        return self.domains[domain].actions[action].get(profile, NOTHING)

    def knows(self, domain: str, action: str) -> bool:
        """Tell whether some file declares the action."""
        return domain in self.domains and action in self.domains[domain].actions

    @property
    def protected(self) -> list[str]:
        """Domains that PostgreSQL guards too."""
        return [domain.code for domain in self.domains.values() if domain.protected]


def read(paths: list[Path]) -> Table:
    """Read the files, the core's first. Raises ImproperlyConfigured naming file, domain and action of what is wrong."""
    table: Table | None = None
    for path in paths:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        if table is None:
            profiles = {
                code: Profile(code, row["nom"], row["famille"], row["mission"])
                for code, row in content["profil"].items()
            }
            table = Table(profiles, content["anciens"])
            if unknown := set(table.former.values()) - set(profiles):
                raise ImproperlyConfigured(f"{path}: [anciens] names unknown profiles {sorted(unknown)}")
        _add(table, path, content)
    return table


def _add(table: Table, path: Path, content: dict) -> None:
    columns = content["profils"].split()
    if unknown := [code for code in columns if code not in table.profiles]:
        raise ImproperlyConfigured(f"{path}: `profils` names unknown profiles {unknown}")
    for code, lines in content.get("domaine", {}).items():
        if code in table.domains:
            raise ImproperlyConfigured(f"{path}: domain {code} is declared twice")
        domain = table.domains[code] = Domain(code, lines.pop("nom"), lines.pop("protege", False))
        for action, line in lines.items():
            letters = line.split()
            if len(letters) != len(columns) or set(letters) - {*REACHES, NOTHING}:
                raise ImproperlyConfigured(
                    f"{path}: {code}.{action}: {len(letters)} letters for {len(columns)} profiles, "
                    f"each one of {' '.join(REACHES)} {NOTHING}"
                )
            domain.actions[action] = dict(zip(columns, letters, strict=True))


@cache
def table() -> Table:
    """Return the table of this installation."""
    others = [Path(module.path) / FILE for module in apps.get_app_configs()]
    return read([CORE, *(path for path in others if path.exists() and path != CORE)])
