"""`sias-manage load_population --persons N --seed S`: a population of the Moselle."""

import json
import time

from django.core.management.base import BaseCommand, CommandError, CommandParser

from sias.population import loader


class Command(BaseCommand):
    """Load a population through COPY; says `unchanged` when the same one is already there."""

    help = "Charge une population imaginaire de la Moselle (rôle propriétaire requis). La même graine donne les mêmes données."

    def add_arguments(self, parser: CommandParser) -> None:
        """Arguments."""
        parser.add_argument("--persons", type=int, required=True, help="nombre de personnes")
        parser.add_argument("--seed", type=int, default=57, help="graine (57)")
        parser.add_argument("--replace", action="store_true", help="efface la population présente")
        parser.add_argument("--progress", choices=["text", "json"], default="text", help="forme de l'avancement")
        parser.add_argument("--processes", type=int, default=None, help="processus (un par cœur)")

    def handle(self, *_args: object, **options: object) -> None:
        """Do it."""
        self.start, self.as_json, self.said = time.monotonic(), options["progress"] == "json", ""
        try:
            if not loader.check(options["persons"], replace=options["replace"], seed=options["seed"]):
                self.say(state="unchanged", persons=options["persons"], seed=options["seed"])
                return
            result = loader.load(options["persons"], options["seed"], self.progress, options["processes"])
        except loader.RefusedError as refused:
            raise CommandError(str(refused), returncode=3) from refused
        self.say(
            state="changed",
            persons=result.persons,
            households=result.households,
            names=result.names,
            seconds=round(result.seconds, 1),
            digest=result.digest,
        )

    def progress(self, phase: str, done: int, total: int) -> None:
        """Print a line per phase, and per shard of persons."""
        elapsed = round(time.monotonic() - self.start, 1)
        if self.as_json:
            self.stdout.write(
                json.dumps({"phase": phase, "done": done, "total": total, "elapsed": elapsed}, ensure_ascii=False)
            )
        elif phase != self.said or done == total:
            self.stdout.write(
                f"{elapsed:7.1f} s  {phase} {done}/{total}" if phase == "personnes" else f"{elapsed:7.1f} s  {phase}"
            )
        self.said = phase
        self.stdout.flush()

    def say(self, **facts: object) -> None:
        """Print the outcome."""
        if self.as_json:
            self.stdout.write(json.dumps(facts))
        else:
            self.stdout.write(" ".join(f"{name}={value}" for name, value in facts.items()))
