"""What the worker of this host tells of its work, for the figures of the host: `sias-metrics` reads the files."""

import json
import logging
from pathlib import Path

from django.conf import settings

logger = logging.getLogger(__name__)


def tell(name: str, rows: list[dict[str, str | float]]) -> None:
    """Write a file of rows, whole or not at all; nowhere without SIAS_STATE, the folder of the worker's service.

    A file that cannot be written stops no work: an alert on figures that grow old is heard.
    """
    if not settings.SIAS_STATE:
        return
    path = Path(settings.SIAS_STATE) / f"{name}.json"
    try:
        path.with_suffix(".new").write_text(json.dumps(rows), encoding="utf-8")
        path.with_suffix(".new").replace(path)
    except OSError as error:
        logger.warning("%s cannot be written: %s", path, error)
