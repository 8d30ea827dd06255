"""« Télécharger la fiche » : the household as a tagged PDF (PDF/UA-1), no more than what its reader may see.

WeasyPrint is imported when first used: it costs a worker half a second and thirty megabytes. It fetches nothing.
"""

from collections.abc import Callable
from functools import cache

from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone

from sias.habilitations.rights import mask
from sias.households import tabs
from sias.repertoire.models import Household
from sias.repertoire.services import composition


@cache
def _engine() -> Callable:
    import weasyprint  # noqa: PLC0415

    # No protocol is allowed: neither the network nor a file of the host ever gets into a sheet.
    nothing = weasyprint.urls.URLFetcher(allowed_protocols=[])
    fonts = weasyprint.text.fonts.FontConfiguration()

    def write(html: str) -> bytes:
        return weasyprint.HTML(string=html, url_fetcher=nothing, base_url=None).write_pdf(
            pdf_variant="pdf/ua-1", font_config=fonts
        )

    return write


def pdf(request: HttpRequest, household: Household) -> bytes:
    """Return the sheet of a household, with the parts that the agent may read."""
    parts = [
        (part.label, part.template, context)
        for part in tabs.SHEET
        if (context := part.context(request, household)) is not None
    ]
    made = composition(household)
    html = render_to_string(
        "households/sheet/sheet.html",
        {
            "household": household,
            "composition": made,
            "masked": mask(request.user, [member.person for member in made.members]),
            "parts": parts,
            "agent": request.user,
            "now": timezone.localtime(),
        },
    )
    return _engine()(html)
