"""What a process does once is done before it answers: the first user after a restart waits no longer than the next."""

import logging
from pathlib import Path

from django.conf import settings
from django.template import TemplateDoesNotExist, TemplateSyntaxError
from django.template.loader import get_template
from django.urls import get_resolver

logger = logging.getLogger("sias.warm")


def warm() -> int:
    """Import every view and compile every page; return how many pages.

    A page that does not compile is left to whoever opens it: the others are no worse for it.
    """
    get_resolver().reverse_dict  # noqa: B018 - imports every module of views
    made = 0
    for root in settings.TEMPLATES[0]["DIRS"]:
        for path in Path(root).rglob("*.html"):
            try:
                get_template(str(path.relative_to(root)))
            except (TemplateDoesNotExist, TemplateSyntaxError) as error:
                logger.warning("%s does not compile: %s", path.name, error)
            else:
                made += 1
    return made
