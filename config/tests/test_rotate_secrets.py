"""`manage.py rotate_secrets` reaches every secret at rest, of every app."""

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command

from accounts import secrets
from proxy.models import Provider

pytestmark = pytest.mark.django_db
OLD = "the-old-secret-key-that-is-long-enough-0123456789"
NEW = "the-new-secret-key-that-is-long-enough-0123456789"


def provider(**fields):
    return Provider.objects.create(kind="openai", base_url="https://api.example.com/v1", **fields)


def test_what_the_old_key_encrypted_is_read_without_it_afterwards(settings, capsys):
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = OLD, []
    one = provider(slug="one", api_key_encrypted=secrets.encrypt("sk-one"))
    none = provider(slug="none")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, [OLD]
    call_command("rotate_secrets")
    call_command("rotate_secrets")
    settings.SECRET_KEY_FALLBACKS = []
    one.refresh_from_db()
    none.refresh_from_db()
    assert secrets.decrypt(one.api_key_encrypted) == "sk-one"
    assert none.api_key_encrypted == ""
    assert "1 secrets" in capsys.readouterr().out


def test_what_no_key_reads_is_named_and_the_rest_is_done(settings):
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, []
    lost = provider(slug="lost", api_key_encrypted="not a token")
    kept = provider(slug="kept", api_key_encrypted=secrets.encrypt("sk-kept"))
    before = kept.api_key_encrypted
    with pytest.raises(CommandError, match=rf"proxy_provider.api_key_encrypted {lost.pk}$"):
        call_command("rotate_secrets")
    kept.refresh_from_db()
    assert kept.api_key_encrypted != before
    assert secrets.decrypt(kept.api_key_encrypted) == "sk-kept"


def test_no_column_that_holds_a_secret_has_another_name():
    found = {
        f"{model.__name__}.{column.name}"
        for model in apps.get_models()
        for column in model._meta.concrete_fields
        if column.name.endswith("_encrypted")
    }
    assert found >= {"Provider.api_key_encrypted", "Provider.report_key_encrypted", "UpstreamKey.key_encrypted"}
