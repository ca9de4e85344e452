"""The ways in: staff's second factor, and every page of allauth's in our design."""

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client

from config.tests import pages_kit

pytestmark = pytest.mark.django_db


def _staff() -> tuple[Client, object]:
    user, client = pages_kit.person("staff", is_staff=True, is_superuser=True), Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client, user


def test_staff_without_a_second_factor_are_told_how_to_get_one(settings):
    settings.STAFF_NEEDS_MFA = True
    client, user = _staff()
    for path in ("/admin/", "/admin/accounts/user/"):
        refused = client.get(path)
        assert refused.status_code == 403
        assert "/accounts/2fa/" in refused.content.decode()
    assert "opens once you have a second factor" in client.get("/account/").content.decode()
    Authenticator.objects.create(user=user, type=Authenticator.Type.RECOVERY_CODES, data={})
    assert client.get("/admin/").status_code == 403
    Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={})
    assert client.get("/admin/").status_code == 200


def test_who_is_no_staff_is_asked_to_sign_in(settings):
    settings.STAFF_NEEDS_MFA = True
    assert Client().get("/admin/").status_code == 302
    client = Client()
    client.force_login(pages_kit.person("ada"), backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/admin/").status_code in {302, 403}


def test_in_development_a_password_is_enough(settings):
    settings.STAFF_NEEDS_MFA = False
    assert _staff()[0].get("/admin/").status_code == 200


def test_staff_sign_out_programs():
    client, _ = _staff()
    cast = pages_kit.cast()
    session = pages_kit.api_session(cast.users["owner"], cast.organization)
    assert session.refresh_digest not in client.get(f"/admin/accounts/apisession/{session.pk}/change/").content.decode()
    client.post("/admin/accounts/apisession/", {"action": "end", "_selected_action": [session.pk]})
    session.refresh_from_db()
    assert session.ended_at
    helper = pages_kit.person("helper", is_staff=True)
    client.force_login(helper, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/admin/accounts/apisession/").status_code == 403
