"""`sias-manage sync_directory`: a pass over the directory, now."""

import json
import sys

from django.core.management.base import BaseCommand, CommandError, CommandParser

from sias.directory import passes
from sias.directory.models import Run

CODES = {Run.State.APPLIED: 0, Run.State.PREVIEW: 0, Run.State.FAILED: 1, Run.State.REFUSED: 4}
SHOWN = 200  # rows on a screen; --json prints all


class Command(BaseCommand):
    """Make a pass; exit code 1 when the directory cannot be read whole, 4 when too many would be locked out."""

    help = "Synchronise agents, groupes et départs avec l'annuaire. --dry-run montre ce qui changerait."

    def add_arguments(self, parser: CommandParser) -> None:
        """Arguments."""
        parser.add_argument("--dry-run", action="store_true", help="n'écrit rien, montre ce qui changerait")
        parser.add_argument("--departures", action="store_true", help="les départs seulement")
        parser.add_argument("--allow", type=int, default=0, metavar="N", help="admet jusqu'à N départs, avec --reason")
        parser.add_argument("--reason", default="", help="pourquoi tant d'agents partent")
        parser.add_argument("--json", action="store_true", help="une ligne JSON, pour un programme")

    def handle(self, *_args: object, **options: object) -> None:
        """Do it."""
        if not passes.enabled():
            raise CommandError("Aucun annuaire n'est indiqué (SIAS_LDAP_SERVERS).", returncode=2)
        if options["allow"] and not options["reason"].strip():
            raise CommandError("--allow demande --reason.", returncode=2)
        run = passes.perform(
            Run(
                scope=Run.Scope.DEPARTURES if options["departures"] else Run.Scope.WHOLE,
                dry=options["dry_run"],
                allowed=options["allow"],
                reason=options["reason"].strip()[:300],
            )
        )
        rows = [
            {
                "username": row.username,
                "dn": row.dn,
                "verdict": row.verdict,
                "reason": row.reason,
                "differences": row.differences,
            }
            for row in run.rows.order_by("verdict", "username")
        ]
        if options["json"]:
            told = {"run": run.pk, "state": run.state, "server": run.server, "counts": run.counts, "rows": rows}
            self.stdout.write(json.dumps(told | {"problem": run.problem}, ensure_ascii=False))
        else:
            self._tell(run, rows)
        sys.exit(CODES[run.state])

    def _tell(self, run: Run, rows: list[dict]) -> None:
        for row in rows[:SHOWN]:
            changes = ", ".join(
                f"{label} : {before or '(vide)'} → {after or '(vide)'}" for label, before, after in row["differences"]
            )
            self.stdout.write(f"{row['verdict']:8} {row['username'] or row['dn']}  {row['reason']} {changes}".rstrip())
        if len(rows) > SHOWN:
            self.stdout.write(f"… et {len(rows) - SHOWN} autres")
        counts = ", ".join(f"{name} {count}" for name, count in sorted(run.counts.items()))
        self.stdout.write(f"{run} : {run.get_state_display()}. {counts}. {run.problem}".strip())
