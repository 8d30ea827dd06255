"""What the worker of this host tells of the platform, for the figures of the host: `sias-metrics` reads the files."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

from django.conf import settings

logger = logging.getLogger(__name__)
Rows = list[dict[str, str | float]]

FIGURES: dict[str, Callable[[], Rows]] = {}


def figure(name: str) -> Callable:
    """Register what is told in the file of this name."""

    def register(rows: Callable[[], Rows]) -> Callable:
        FIGURES[name] = rows
        return rows

    return register


def tell() -> None:
    """Write every file, each whole or not at all; nothing without SIAS_STATE, the folder of the worker's service.

    A file that cannot be written stops no work: an alert on figures that grow old is heard.
    """
    if not settings.SIAS_STATE:
        return
    for name, rows in FIGURES.items():
        path = Path(settings.SIAS_STATE) / f"{name}.json"
        text = json.dumps(rows())
        try:
            path.with_suffix(".new").write_text(text, encoding="utf-8")
            path.with_suffix(".new").replace(path)
        except OSError as error:
            logger.warning("%s cannot be written: %s", path, error)
