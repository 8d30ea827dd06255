"""Persons who were entered a second time."""

from sias.platform.demonstration import Scene, demonstration
from sias.repertoire.services import FIELDS, create_person


@demonstration(order=40)
def make(scene: Scene) -> None:
    """A name that was heard and spelt differently, and a day of birth that was mistyped: the queue finds both by itself."""
    heard, mistyped = scene.persons[1], scene.persons[2]
    _again(scene, heard, birth_name=f"{heard.birth_name[:-1]}Z", phone="", email="")
    _again(scene, mistyped, birth_date=mistyped.birth_date.replace(day=mistyped.birth_date.day % 28 + 1), address="")


def _again(scene: Scene, person: object, **changes: object) -> None:
    data = {name: getattr(person, name) for name in FIELDS} | {"commune": person.commune_id, "nir": "", "household": ""}
    create_person(data | changes, scene.colleague)
