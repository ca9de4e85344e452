import pytest

from accounts import secrets

OLD, NEW = "o" * 40, "n" * 40


def test_a_secret_comes_back_and_its_token_does_not_show_it():
    token = secrets.encrypt("sk-upstream")
    assert "sk-upstream" not in token
    assert secrets.decrypt(token) == "sk-upstream"
    assert secrets.encrypt("sk-upstream") != token


def test_an_old_key_decrypts_until_it_is_dropped(settings):
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = OLD, []
    token = secrets.encrypt("sk-upstream")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, [OLD]
    assert secrets.decrypt(token) == "sk-upstream"
    token_of_new = secrets.rotated(token)
    settings.SECRET_KEY_FALLBACKS = []
    assert secrets.decrypt(token_of_new) == "sk-upstream"
    with pytest.raises(secrets.Undecryptable):
        secrets.decrypt(token)
    with pytest.raises(secrets.Undecryptable):
        secrets.rotated(token)


@pytest.mark.parametrize("token", ["", "x", "gAAAAA", "é"])
def test_a_damaged_token_is_undecryptable(token):
    with pytest.raises(secrets.Undecryptable):
        secrets.decrypt(token)


def test_fingerprints_tell_secrets_apart(settings):
    assert secrets.fingerprint("a") == secrets.fingerprint("a") != secrets.fingerprint("b")
    one = secrets.fingerprint("a")
    settings.SECRET_KEY = NEW
    assert secrets.fingerprint("a") != one
