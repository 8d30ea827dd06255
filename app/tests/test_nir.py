"""The national identifier."""

import pytest
from cryptography.exceptions import InvalidTag
from sias.repertoire import nir

# From the public documentation of the number's key.
VALID = ["255081416802538", "185057800608491", "2690549588157" + "80"]


@pytest.mark.parametrize("number", VALID)
def test_a_real_key_is_accepted(number):
    assert nir.problem(number) == ""


@pytest.mark.parametrize(
    "number", ["255081416802539", "25508141680253", "955081416802538", "255131416802538", "ABC", ""]
)
def test_a_wrong_number_is_refused_with_a_sentence(number):
    assert nir.problem(number).endswith((".", "probable."))


def test_every_single_wrong_digit_is_noticed():
    number = VALID[0]
    for place in range(13):
        for digit in "0123456789":
            if digit != number[place]:
                assert nir.problem(number[:place] + digit + number[place + 1 :]), (place, digit)


@pytest.mark.parametrize(("department", "as_number"), [("2A", "19"), ("2B", "18")])
def test_corsica_has_letters(department, as_number):
    assert nir.key(f"18505{department}006084") == 97 - int(f"18505{as_number}006084") % 97


def test_it_is_encrypted_found_and_masked():
    sealed = nir.encrypt(VALID[0])
    assert VALID[0].encode() not in sealed
    assert nir.decrypt(sealed) == VALID[0]
    assert nir.blind_index(VALID[0]) == nir.blind_index(VALID[0][:13]) != nir.blind_index(VALID[1])
    assert nir.mask(VALID[0]) == "2 55 •• •• ••• ••• ••"


def test_a_damaged_ciphertext_is_refused():
    sealed = bytearray(nir.encrypt(VALID[0]))
    sealed[3] ^= 1
    with pytest.raises(InvalidTag):
        nir.decrypt(bytes(sealed))


@pytest.mark.parametrize("written", ["2 55 08 14 168 025 38", "2.55.08.14.168.025.38", "2550814168025 38"])
def test_people_write_spaces_and_dots(written):
    assert nir.clean(written) == VALID[0]
