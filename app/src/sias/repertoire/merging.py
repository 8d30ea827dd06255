"""Two people edited a person: what each changed since the form was shown, field by field.

`base` is what the form showed, `theirs` what is saved now, `mine` what was typed, all as the form writes them. What only
the other one changed is taken over, what only this one changed is kept, and for the rest somebody has to choose.
"""

import json
from dataclasses import dataclass

CHOICE = "choix-"  # name of the choice's field: choix-address = mienne | autre
MINE, THEIRS = "mienne", "autre"
UNDECIDED = "a-choisir"  # names of the fields that the page asked about
KEPT_APART = {"version", "base", "nir", "household"}  # the NIR is never shown: empty means unchanged


@dataclass(frozen=True)
class Difference:
    """A field that both changed, each in their own way; `choice` is what was chosen, "" for nothing yet."""

    name: str
    label: str
    theirs: str
    mine: str
    choice: str = ""


@dataclass(frozen=True)
class Merged:
    """What is taken over from the other, by field, with the labels; and what both changed."""

    data: dict[str, str]
    taken: list[str]
    differences: list[Difference]


def merge(labels: dict[str, str], base: dict[str, str], theirs: dict[str, str], mine: dict[str, str]) -> Merged:
    """Merge by field. Without `base` of a field, nobody knows who changed it: it is to be chosen."""
    merged = Merged({}, [], [])
    for name, label in labels.items():
        if name in KEPT_APART or mine[name] == theirs[name]:
            continue
        before = base.get(name)
        if before == mine[name]:
            merged.data[name] = theirs[name]
            merged.taken.append(label)
        elif before != theirs[name]:
            merged.differences.append(Difference(name, label, theirs[name], mine[name]))
    return merged


def read_base(text: str) -> dict[str, str]:
    """Return what the form showed; nothing when it is missing or was bent."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def write_base(fields: dict[str, str]) -> str:
    """Return what the form shows, for its hidden field."""
    return json.dumps({name: value for name, value in fields.items() if name not in KEPT_APART}, ensure_ascii=False)
