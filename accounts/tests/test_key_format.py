import pytest

from accounts import key_format


def test_a_key_has_the_documented_shape():
    secret = key_format.generate()
    assert secret.startswith("sk-tup-")
    assert len(secret) == len("sk-tup-") + 12 + 32 + 6
    assert key_format.is_well_formed(secret)
    assert key_format.public_prefix(secret) == secret[:19]


def test_every_typo_of_one_character_is_refused():
    secret = key_format.generate()
    for position in range(len("sk-tup-"), len(secret)):
        typo = secret[:position] + ("0" if secret[position] != "0" else "1") + secret[position + 1 :]
        assert not key_format.is_well_formed(typo)


@pytest.mark.parametrize("text", ["", "sk-tup-", "sk-" + "x" * 50, "sk-tup-" + "é" * 50, "sk-tup-" + "a" * 50 + "\n"])
def test_other_strings_are_no_keys(text):
    assert not key_format.is_well_formed(text)


def test_the_digest_is_keyed_and_is_no_key():
    secret = key_format.generate()
    digest = key_format.digest_of(secret, "pepper")
    assert digest == key_format.digester("pepper")(secret)
    assert digest != key_format.digest_of(secret, "another pepper")
    assert secret not in digest
    assert not key_format.is_well_formed(digest)


def test_keys_do_not_repeat():
    assert len({key_format.generate() for _ in range(1000)}) == 1000
