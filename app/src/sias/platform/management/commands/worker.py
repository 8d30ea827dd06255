"""`sias-worker` = `sias-manage worker`: recurring duties, shared between the workers of both rooms.

No queue to install: a duty is a row, whoever locks it first does it (FOR UPDATE SKIP LOCKED), in one short transaction
that moves the row's next date. A worker that dies in the middle leaves the row as it was. The database may move at any
time: the worker waits and goes on.
"""

import logging
import signal
import time
from datetime import timedelta
from threading import Event

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, InterfaceError, connections, transaction
from django.utils import timezone

from sias.platform import duties, figures
from sias.platform.models import Duty
from sias.platform.outage import is_transient

logger = logging.getLogger("sias.worker")
IDLE = 1.0  # s between looks when there is nothing to do
TELL = 15.0  # s between two times that the figures are told to this host
RETRY = timedelta(minutes=15)  # the longest until a duty that failed is tried again, however seldom it is done
AWAY = (0.5, 5.0)  # s to wait while the database is away: first, longest


class Command(BaseCommand):
    """Do the duties until told to stop."""

    help = "Tâches de fond : vérification des documents, purge, dictionnaire des noms."

    def add_arguments(self, parser: CommandParser) -> None:
        """Arguments."""
        parser.add_argument("--once", action="store_true", help="fait ce qui est dû, puis s'arrête")

    def handle(self, *_args: object, **options: object) -> None:
        """Loop."""
        self.stop = Event()
        if not options["once"]:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self.stop.set())
        logger.info("started in room %s on %s", settings.SIAS_ROOM, settings.SIAS_HOST)
        known, wait, told = False, AWAY[0], float("-inf")
        while not self.stop.is_set():
            try:
                if not known:
                    register()
                    known = True
                name = run_one()
                if time.monotonic() - told >= TELL:
                    figures.tell()
                    told = time.monotonic()
            except (DatabaseError, InterfaceError) as error:
                if not is_transient(error):
                    raise  # a defect: systemd restarts us and the journal has the traceback
                if options["once"]:
                    raise
                logger.warning("database away, again in %.1f s: %s", wait, str(error).strip().splitlines()[0])
                connections.close_all()
                self.stop.wait(wait)
                wait = min(wait * 2, AWAY[1])
                continue
            wait = AWAY[0]
            if name is None:
                if options["once"]:
                    return
                self.stop.wait(IDLE)
        logger.info("stopped")


def register() -> None:
    """Make sure that each duty has its row."""
    with transaction.atomic():
        Duty.objects.bulk_create(
            [Duty(name=name, next_run=timezone.now()) for name in duties.DUTIES], ignore_conflicts=True
        )


def run_one() -> str | None:
    """Do the duty that has waited longest; return its name, None when none is due."""
    connections["default"].close_if_unusable_or_obsolete()
    with transaction.atomic():
        row = (
            Duty.objects.using("default")
            .select_for_update(skip_locked=True)
            .filter(next_run__lte=timezone.now(), name__in=duties.DUTIES)
            .order_by("next_run")
            .first()
        )
        if row is None:
            return None
        duty = duties.DUTIES[row.name]
        pause = timedelta(seconds=duty.every)
        start = time.monotonic()
        try:
            with transaction.atomic():
                outcome, more = duty.act()
        except Exception as error:
            if isinstance(error, (DatabaseError, InterfaceError)) and is_transient(error):
                raise
            logger.exception("duty %s failed", row.name)
            outcome, more = f"{type(error).__name__}: {error}"[:500], False
            row.failures += 1
            pause = min(pause, RETRY)
        else:
            row.failures = 0
        row.last_run, row.last_seconds = timezone.now(), time.monotonic() - start
        row.last_host, row.last_result = settings.SIAS_HOST, outcome
        row.next_run = timezone.now() + (timedelta() if more else pause)
        row.save()
    if outcome:
        logger.info("%s: %s (%.2f s)", row.name, outcome, row.last_seconds)
    return row.name
