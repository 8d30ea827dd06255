"""How names are compared: a French phonetic code with the ear of Lorraine, and forms one letter short.

Both work on compact names (capitals A-Z, see sias.socle.text). The code answers "how does it sound to an agent at the
desk": Germanic, Polish, Italian, Portuguese and Turkish names said in French. Coarse on purpose: candidates are scored
afterwards by edit distance.
"""

import re
from functools import lru_cache

from rapidfuzz.distance import OSA

from sias.socle.text import normalise

_RULES: tuple[tuple[re.Pattern, str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"[^A-Z]", ""),
        (r"NN$", "N"),  # Hoffmann, Hoffman
        (r"PH", "F"),
        (r"TSCH|TCH|SCH|SH|SZ|CZ", "1"),  # 1 = ch
        (r"CH(?=[RLNT])", "K"),  # Christian, Schlachter
        (r"(?<=[AOU])CH$", "K"),  # Bach, Koch, Buch
        (r"CH", "1"),
        (r"CK|Q(?:U(?=[AEIOY]))?", "K"),
        (r"GN", "N"),
        (r"(?<=[AEOU])ILL(?=[AEIOUY])", "Y"),  # Maillard, Guillaume; but Miller is said Miler
        (r"S?C(?=[EIY])", "S"),
        (r"C", "K"),
        (r"GU(?=[EIY])", "G"),
        (r"J", "G"),  # Georges, Jorges
        (r"[TD]S|TZ|Z", "S"),
        (r"DT", "T"),
        (r"[WV]", "F"),  # Wagner, Vagner; Vogel, Fogel
        (r"H", ""),
        (r"X(?!$)", "KS"),
        (r"(?<=[AO]U)L?[TDXS]S?$|(?<=O)[TDXS]$|(?<=[NR])[TD]S?$", ""),  # Giraud, Girault; Laurent, Bernard
        (r"(?<=[AEIOUY])[SX]$", ""),  # Dumas, Leroux, Martinez
        (r"(?<=[^AEIOUY])E$", ""),  # a mute e
        (r"[AE][NM](?=[^AEIOUYNM]|$)", "2"),  # 2 = an, en
    )
)
_VOWELS = re.compile(r"[AEIOUY]+")
_DOUBLED = re.compile(r"(.)\1+")
LONGEST_CODE = 40
SHORTEST_CUT = 3  # letters: a name of two has no form one letter short
SHORTEST_START = 3  # letters that count as the beginning of a name
ONE_ERROR, SAME_SOUND = 75, 86  # likeness, however short the name


def _vowel(match: re.Match) -> str:
    group = match.group()
    if "AU" in group or ("O" in group and "OE" not in group):
        return "O"
    if "A" in group and not re.match(r"A[IYE]", group):
        return "A"
    return "E"  # e, i, u, ü, ö, ä, ai, ei, ey: what an ear confuses most


@lru_cache(maxsize=65536)  # a day's names; the code of a name never changes
def phonetic(name: str) -> str:
    """Return how a compact name sounds; two names with one code sound alike. Never empty for a name with letters."""
    code = name
    for pattern, replacement in _RULES:
        code = pattern.sub(replacement, code)
    code = _DOUBLED.sub(r"\1", _VOWELS.sub(_vowel, code))
    return (code or name)[:LONGEST_CODE]


_STREET_WORDS = (
    "RUE AVENUE AV BOULEVARD BD BLD PLACE PL CHEMIN CHE IMPASSE IMP ROUTE RTE ALLEE ALLEES ALL QUAI COURS "
    "SQUARE SQ CITE LOTISSEMENT LOT RESIDENCE RES PASSAGE PAS SENTIER VOIE RUELLE FAUBOURG FBG DE DES DU D LA LE LES L"
)


def street(address: str) -> str:
    """Return the compared form of an address, the name of the street first: `12 bis, rue des Clercs` -> `CLERCS 12 BIS`.

    Kinds of streets and articles are left out, so `clercs`, `rue des clercs` and `12 rue Clercs` begin the same way.
    """
    words = normalise(address).split()
    number = [words.pop(0)] if words and words[0].isdigit() else []
    if number and words and words[0] in {"B", "BIS", "T", "TER", "QUATER"}:
        number.append(words.pop(0))
    named = [word for word in words if word not in _STREET_WORDS.split()] or words
    return " ".join([*named, *number])


def names_a_street(address: str) -> bool:
    """Tell whether an address holds more than `rue de la`: enough to look for."""
    return any(word not in _STREET_WORDS.split() for word in normalise(address).split())


def variants(name: str) -> list[str]:
    """Return the name and its forms with one letter left out.

    Two names one error apart (a letter wrong, missing, added or swapped with its neighbour) have at least one in
    common, so that an index on them finds every such pair, however short the name; trigrams miss short names.
    """
    forms = {name}
    if len(name) >= SHORTEST_CUT:
        forms.update(name[:place] + name[place + 1 :] for place in range(len(name)))
    return sorted(forms)


def likeness(asked: str, name: str, asked_code: str, name_code: str) -> int:
    """Return how well `name` answers `asked`, 0-100: 100 the same, >= 60 worth showing."""
    if asked == name:
        return 100
    longest = max(len(asked), len(name))
    distance = OSA.distance(asked, name)
    score = 100 - round(100 * distance / longest)
    if distance == 1:
        score = max(score, ONE_ERROR)
    if asked_code == name_code:
        score = max(score, SAME_SOUND)
    if len(asked) >= SHORTEST_START and name.startswith(asked):
        score = max(score, 72 + round(20 * len(asked) / longest))
    return min(score, 99)
