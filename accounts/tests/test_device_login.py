"""Device login (RFC 8628), end to end: a program, and a person in a browser."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from accounts import device_login, organizations
from accounts.models import ApiSession, AuditEntry, DeviceLogin, Membership, Role, User
from accounts.tests.factories import UserFactory

pytestmark = pytest.mark.django_db

GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture(autouse=True)
def _no_limits_yet() -> None:
    cache.clear()


def post(path: str, body: dict[str, str], *, is_form: bool = False) -> Any:
    if is_form:
        form = "application/x-www-form-urlencoded"
        return Client().post(f"/v1/auth/device/{path}", urlencode(body), content_type=form)
    return Client().post(f"/v1/auth/device/{path}", body, content_type="application/json")


def started(**body: str) -> dict[str, Any]:
    told: dict[str, Any] = post("code", {"client_id": "pixie", **body}).json()
    return told


def asked(device: dict[str, Any], **body: str) -> tuple[int, str]:
    """Status and code of a poll."""
    answer = post("token", {"grant_type": GRANT, "device_code": device["device_code"], "client_id": "pixie"} | body)
    told = answer.json()
    return answer.status_code, told["error"]["code"] if "error" in told else "tokens"


def later(**time: float) -> None:
    """As if the last poll were so much longer ago."""
    DeviceLogin.objects.update(polled_at=timezone.now() - timedelta(**time))


def person() -> tuple[User, Client]:
    user, browser = UserFactory(), Client()
    organizations.personal_of(user)
    browser.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return user, browser


def decide(browser: Client, device: dict[str, Any], action: str = "approve", organization: str = "") -> Any:
    fields = {"user_code": device["user_code"], "action": action, "organization": organization}
    return browser.post("/device", fields)


def test_a_device_is_let_in_for_the_organization_that_its_person_chose():
    user, browser = person()
    works = organizations.create(name="Works", slug="works")
    Membership.objects.create(organization=works, user=user, role=Role.DEVELOPER)
    device = started(client_name="pixie on a laptop")
    assert (device["expires_in"], device["interval"]) == (600, 5)
    assert device["verification_uri"] == "http://localhost:8000/device"
    assert asked(device) == (400, "authorization_pending")

    page = browser.get(device["verification_uri_complete"]).content.decode()
    for shown in ("pixie on a laptop", device["user_code"], "127.0.0.1", "Works"):
        assert shown in page
    assert "now acts for Works" in decide(browser, device, organization="works").content.decode()

    answer = post("token", {"grant_type": GRANT, "device_code": device["device_code"], "client_id": "pixie"})
    made = answer.json()
    assert answer.status_code == 200
    assert answer["cache-control"] == "no-store"
    headers = {"authorization": f"Bearer {made['access_token']}"}
    me = Client().get("/v1/auth/me", headers=headers).json()
    assert (me["email"], me["organization"]["slug"], me["organization"]["role"]) == (user.email, "works", "developer")
    assert (me["session"]["way"], me["session"]["client_name"]) == ("device", "pixie on a laptop")
    assert asked(device) == (400, "invalid_grant")
    assert {"device_login.approve", "api_session.begin"} <= set(AuditEntry.objects.values_list("action", flat=True))

    renewed = Client().post(
        "/v1/auth/refresh", {"refresh_token": made["refresh_token"]}, content_type="application/json"
    )  # fmt: skip
    assert renewed.status_code == 200


def test_a_devices_session_is_for_one_organization():
    user, browser = person()
    works = organizations.create(name="Works", slug="works")
    Membership.objects.create(organization=works, user=user, role=Role.ADMIN)
    device = started()
    decide(browser, device, organization="works")
    made = post("token", {"device_code": device["device_code"]}).json()
    mine = organizations.personal_of(user).slug
    headers = {"authorization": f"Bearer {made['access_token']}", "openai-organization": mine}
    answer = Client().get("/v1/credits/balance", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_a_member")


def test_the_code_is_read_as_people_type_it():
    _, browser = person()
    device = started()
    typed = device["user_code"].lower().replace("-", " ")
    assert "Let this device in?" in browser.get("/device", {"user_code": typed}).content.decode()


def test_who_is_not_signed_in_comes_back_to_the_code():
    device = started()
    answer = Client().get(device["verification_uri_complete"])
    assert answer.status_code == 302
    assert answer["location"].startswith("/accounts/login/?next=/device%3Fuser_code%3D")
    unknown = Client().get("/device?user_code=X&provider=myspace")
    assert unknown["location"] == "/accounts/login/?next=/device%3Fuser_code%3DX"
    assert Client().get("/device")["location"] == "/accounts/login/?next=/device"


def test_a_device_turned_away_gets_nothing():
    _, browser = person()
    device = started()
    assert "Turned away" in decide(browser, device, "deny").content.decode()
    assert asked(device) == (400, "access_denied")
    assert decide(browser, device, "approve").status_code == 422
    assert not ApiSession.objects.exists()


def test_an_organization_of_others_cannot_be_chosen():
    _, browser = person()
    others = organizations.create(name="Others", slug="others")
    device = started()
    assert decide(browser, device, organization=others.slug).status_code == 422
    assert asked(device) == (400, "authorization_pending")


def test_who_polls_too_fast_is_slowed_down():
    device = started()
    assert asked(device) == (400, "authorization_pending")
    assert asked(device) == (400, "slow_down")
    later(seconds=6)
    assert asked(device) == (400, "slow_down")  # five seconds more each time: fifteen by now
    later(seconds=16)
    assert asked(device) == (400, "authorization_pending")
    answer = post("token", {"device_code": device["device_code"]})
    assert answer.json()["error"]["interval"] == int(answer["retry-after"]) == 20


def test_a_code_expires():
    _, browser = person()
    device = started()
    DeviceLogin.objects.update(expires_at=timezone.now())
    assert asked(device) == (400, "expired_token")
    assert decide(browser, device).status_code == 422
    assert status(device) == "expired"


def status(device: dict[str, Any]) -> str:
    told: str = Client().get(f"/v1/auth/device/{device['device_code']}/status").json()["status"]
    return told


def test_the_status_tells_what_became_of_it():
    _, browser = person()
    device = started()
    seen = [status(device)]
    decide(browser, device, organization=str(organizations.personal_of(User.objects.get()).slug))
    seen.append(status(device))
    asked(device)
    seen.append(status(device))
    assert seen == ["pending", "approved", "complete"]
    unknown = Client().get("/v1/auth/device/unknown/status")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")


def test_a_client_of_oauth_hears_its_own_errors():
    device = post("code", {"client_id": "pixie"}, is_form=True).json()
    fields = {"grant_type": GRANT, "device_code": device["device_code"], "client_id": "pixie"}
    assert post("token", fields, is_form=True).json()["error"] == "authorization_pending"
    assert post("token", fields | {"grant_type": "password"}, is_form=True).json()["error"] == "unsupported_grant_type"
    assert post("token", {"grant_type": GRANT}, is_form=True).json()["error"] == "invalid_request"


def test_a_code_is_bound_to_the_client_that_asked():
    device = started()
    assert asked(device, client_id="another") == (400, "invalid_grant")
    assert asked({"device_code": "x" * 43}) == (400, "invalid_grant")


def test_codes_are_not_stored():
    device = started()
    row = str(DeviceLogin.objects.values().get())
    assert device["device_code"] not in row
    assert device_login.normalized(device["user_code"]) not in row


def test_guessing_codes_is_stopped():
    _, browser = person()
    for _ in range(10):
        browser.get("/device", {"user_code": "BBBB-BBBB"})
    assert "Too many codes" in browser.get("/device", {"user_code": started()["user_code"]}).content.decode()


def test_who_left_the_organization_meanwhile_lets_nothing_in():
    user, browser = person()
    works = organizations.create(name="Works", slug="works")
    membership = Membership.objects.create(organization=works, user=user, role=Role.ADMIN)
    device = started()
    decide(browser, device, organization="works")
    membership.delete()
    assert asked(device) == (400, "access_denied")


def test_what_is_long_over_is_forgotten():
    started()
    DeviceLogin.objects.update(expires_at=timezone.now() - timedelta(days=2))
    started()
    assert DeviceLogin.objects.count() == 1


def test_a_person_ends_the_session_of_a_program_under_account():
    user, browser = person()
    device = started(client_name="pixie on a laptop")
    decide(browser, device, organization=organizations.personal_of(user).slug)
    made = post("token", {"device_code": device["device_code"]}).json()
    assert "pixie on a laptop" in browser.get("/account/").content.decode()
    browser.post(f"/account/programs/{made['id']}/end/")
    headers = {"authorization": f"Bearer {made['access_token']}"}
    assert Client().get("/v1/auth/me", headers=headers).status_code == 401
    assert "pixie on a laptop" not in browser.get("/account/").content.decode()
