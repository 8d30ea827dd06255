"""CSV as offices make it: semicolons or commas, UTF-8 or Windows-1252, a first line that names the columns."""

import csv
import io
from collections.abc import Iterable

MOST_ROWS = 5_000
LARGEST = 5 * 1024 * 1024  # bytes
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run


class UnreadableError(ValueError):
    """The file is no table; the message says why, in French."""


def read(content: bytes) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the headers, and the lines with their numbers, blank ones left out. Raises UnreadableError."""
    if len(content) > LARGEST:
        raise UnreadableError(f"Ce fichier dépasse {LARGEST // 1024 // 1024} Mo. Découpez-le.")
    if b"\0" in content or content[:4] in {b"PK\x03\x04", b"%PDF", b"\xd0\xcf\x11\xe0"}:
        raise UnreadableError(
            "Ce fichier n'est pas un CSV. Dans le tableur : Enregistrer sous, « CSV (séparateur ; ) »."
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    first = text.splitlines()[0] if text.strip() else ""
    if not first:
        raise UnreadableError("Ce fichier est vide.")
    delimiter = max(";,\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise UnreadableError(f"Ce fichier n'est pas un CSV lisible ({error}).") from error
    headers = [name.strip().lower() for name in rows[0][1]]
    if len(set(headers)) != len(headers):
        raise UnreadableError("Deux colonnes portent le même nom.")
    lines = [(number, row) for number, row in rows[1:] if any(cell.strip() for cell in row)]
    if len(lines) > MOST_ROWS:
        raise UnreadableError(f"Ce fichier a {len(lines)} lignes ; le maximum est {MOST_ROWS}. Découpez-le.")
    return headers, [
        (number, {name: cell.strip() for name, cell in zip(headers, row + [""] * len(headers), strict=False)})
        for number, row in lines
    ]


def write(headers: list[str], lines: Iterable[list[str]]) -> str:
    """Return a file that French spreadsheets open by a double click. Cells that they would run are kept as text."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";", lineterminator="\r\n")
    writer.writerow(headers)
    for line in lines:
        writer.writerow([f"'{cell}" if str(cell).startswith(FORMULA) else cell for cell in line])
    return "\ufeff" + out.getvalue()
