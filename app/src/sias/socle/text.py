"""How names and places are compared: in Python, the same on both Debians and in every version of PostgreSQL."""

import re
import unicodedata

_LIGATURES = str.maketrans(
    {
        "œ": "oe",
        "Œ": "oe",
        "æ": "ae",
        "Æ": "ae",
        "ß": "ss",
        "ø": "o",
        "Ø": "o",
        "ł": "l",
        "Ł": "l",
        "đ": "d",
        "Đ": "d",
        "ı": "i",
    }
)
_NOT_LETTERS = re.compile(r"[^A-Z0-9]+")


def normalise(text: str) -> str:
    """Return `text` in capitals without accents, words separated by one space: `Saint-Avold` -> `SAINT AVOLD`."""
    plain = unicodedata.normalize("NFKD", text.translate(_LIGATURES))
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return _NOT_LETTERS.sub(" ", plain.upper()).strip()


def compact(text: str) -> str:
    """Return the normalised text without spaces: the form under which names are indexed (`DA SILVA` = `DASILVA`)."""
    return normalise(text).replace(" ", "")
