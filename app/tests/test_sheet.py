"""The household's sheet: a tagged PDF with what its reader may see, and a trace."""

import io
import logging

import pytest
from pypdf import PdfReader
from sias.households import sheet

from tests.test_evaluations import answer
from tests.test_notes import colleague, write


@pytest.fixture
def place(person):
    return person.memberships.get().household


def read(client, place) -> tuple[PdfReader, str]:
    response = client.get(f"{place.get_absolute_url()}fiche.pdf")
    assert response.status_code == 200
    assert response["Content-Type"] == "application/pdf"
    assert place.number in response["Content-Disposition"]
    reader = PdfReader(io.BytesIO(response.content))
    return reader, " ".join(" ".join(page.extract_text() for page in reader.pages).split())


def test_the_sheet_is_a_tagged_pdf_in_french_with_a_title(client, place):
    reader, _words = read(client, place)
    root = reader.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"]
    assert root["/Lang"] == "fr"
    assert root["/StructTreeRoot"]["/K"]
    assert reader.metadata.title == f"Fiche du Ménage {place.number}"
    assert b"pdfuaid" in root["/Metadata"].get_data()


def test_the_sheet_holds_what_its_reader_may_see(client, place, person):
    save = f"{place.get_absolute_url()}situation/reponses/"
    client.post(save, answer("qualification", "Soudeuse"))
    shared, mine = write(client, place), write(client, place, visibility="service")
    private = write(client, place, visibility="personnelle")
    _reader, words = read(client, place)
    for text in (person.birth_name, "Femme seule, 1 adulte – 0 mineur", "Soudeuse", shared.body, mine.body):
        assert text in words, text
    assert private.body not in words
    assert "téléchargé par Alex Agent" in words
    _reader, words = read(colleague("PMI"), place)
    assert shared.body in words
    assert mine.body not in words


def test_a_download_leaves_a_trace(client, place, cluster):
    read(client, place)
    found = cluster.sql("SELECT agent FROM journal_entry WHERE action = 'export' AND object_id = %s", [str(place.pk)])
    assert found == [("agent",)]


def test_the_sheet_fetches_nothing(caplog):
    with caplog.at_level(logging.ERROR, logger="weasyprint"):
        assert sheet._engine()('<html lang="fr"><title>x</title><img src="file:///etc/passwd" alt="x"></html>')
    assert "Failed to load image at 'file:///etc/passwd'" in caplog.text
