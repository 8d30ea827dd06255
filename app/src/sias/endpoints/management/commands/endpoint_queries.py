"""`sias-manage endpoint_queries`: what every endpoint asks the database, as JSON lines; nothing of it remains.

A line per query: {"endpoint", "text" with $1..$n for its values, "sets": [{"sql" with its values, "settings"}]}. The last line:
{"role", "visits", "endpoints", "queries", "unvisited": {name: why}, "excused": {name: why}}. What is printed holds personal
data: it is for the program that asked, by a pipe.

Endpoints that could not be visited are told on standard error too. See `sias.endpoints.visits`.
"""

import json

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from sias.endpoints.visits import EXCUSED, visit


class Command(BaseCommand):
    """Visit every GET endpoint, and print what it asked."""

    help = "Donne les requêtes de chaque page et de l'API, avec des valeurs prises dans la base ; n'y laisse rien."

    def add_arguments(self, parser: CommandParser) -> None:
        """Arguments."""
        parser.add_argument("--sets", type=int, default=3, metavar="N", help="jeux de valeurs par requête (3)")

    def handle(self, *_args: object, sets: int, **_options: object) -> None:
        """Do it.

        Raises:
            CommandError: it could not; named by its kind alone, because a database's own words may hold values.
        """
        try:
            found = visit(sets)
        except Exception as error:  # noqa: BLE001 - whatever it was, its words are not repeated
            raise CommandError(f"les points d'accès n'ont pas pu être parcourus : {type(error).__name__}") from None
        for name, why in found.unvisited.items():
            self.stderr.write(f"{name}: {why}")
        for query in found.queries.values():
            self.stdout.write(json.dumps(vars(query), ensure_ascii=False))
        total = {"role": connection.settings_dict["USER"], "visits": found.visits, "endpoints": len(found.visited),
                 "queries": len(found.queries), "unvisited": found.unvisited, "excused": EXCUSED}  # fmt: skip
        self.stdout.write(json.dumps(total, ensure_ascii=False))
