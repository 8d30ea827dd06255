"""`sias-manage check_documents --json`: every row has its file, and every file is what its name says."""

import json
import sys

from django.core.files.storage import default_storage
from django.core.management.base import BaseCommand, CommandParser

from sias.documents.models import Document


class Command(BaseCommand):
    """Read every document back; exit code 1 when one is missing or damaged."""

    help = "Relit tous les documents et compare leur SHA-256. Code de sortie 1 si l'un est absent ou altéré."

    def add_arguments(self, parser: CommandParser) -> None:
        """Arguments."""
        parser.add_argument("--json", action="store_true", help="une ligne JSON, pour un programme")

    def handle(self, *_args: object, **options: object) -> None:
        """Do it."""
        verdicts: dict[str, str] = {}
        counts = {"ok": 0, "absent": 0, "altéré": 0}
        faulty = []
        rows = 0
        for identity, sha256 in Document.objects.order_by("sha256").values_list("id", "sha256"):
            rows += 1
            if sha256 not in verdicts:  # the same content is one file
                verdicts = {sha256: default_storage.verify(sha256)}
            counts[verdicts[sha256]] += 1
            if verdicts[sha256] != "ok":
                faulty.append({"id": str(identity), "sha256": sha256, "state": verdicts[sha256]})
        if options["json"]:
            self.stdout.write(
                json.dumps(
                    {
                        "documents": rows,
                        "ok": counts["ok"],
                        "missing": counts["absent"],
                        "corrupt": counts["altéré"],
                        "faulty": faulty[:100],
                    },
                    ensure_ascii=False,
                )
            )
        else:
            self.stdout.write(
                f"{rows} documents : {counts['ok']} entiers, {counts['absent']} absents, {counts['altéré']} altérés"
            )
            for fault in faulty[:100]:
                self.stdout.write(f"  {fault['id']} {fault['sha256']} {fault['state']}")
        if faulty:
            sys.exit(1)
