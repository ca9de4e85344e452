"""`/v1/auth`: accounts, sessions, tokens that turn over, and what a person may do with them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from django.core import mail
from django.core.cache import cache
from django.db import connections
from django.test import Client
from django.utils import timezone

from accounts import keys, organizations, tokens
from accounts.models import ApiSession, AuditEntry, Membership, Role, User
from accounts.tests.factories import UserFactory
from proxy.tests.api_kit import assert_error, customer

pytestmark = pytest.mark.django_db

PASSWORD = "copper-pine-42"


@pytest.fixture(autouse=True)
def _no_limits_yet() -> None:
    cache.clear()


def post(path: str, body: dict[str, Any], token: str = "", **headers: str) -> Any:
    headers |= {"authorization": f"Bearer {token}"} if token else {}
    return Client().post(f"/v1/auth/{path}", body, content_type="application/json", headers=headers)


def get(path: str, token: str, **headers: str) -> Any:
    return Client().get(path, headers={"authorization": f"Bearer {token}"} | headers)


def patch(path: str, body: dict[str, Any], token: str) -> Any:
    headers = {"authorization": f"Bearer {token}"}
    return Client().patch(f"/v1/auth/{path}", body, content_type="application/json", headers=headers)


def somebody(**fields: Any) -> User:
    """A person who can sign in, with an organization of their own."""
    user = UserFactory(email=f"ada-{uuid4().hex[:8]}@example.com", password=PASSWORD, **fields)
    organizations.personal_of(user)
    return user


def signed_in(user: User, **body: str) -> dict[str, Any]:
    response = post("login", {"email": user.email, "password": PASSWORD, **body})
    assert response.status_code == 200, response.content
    told: dict[str, Any] = response.json()
    return told


# ---------------------------------------------------------------- Register


def test_whoever_registers_is_signed_in_and_has_an_organization():
    email = f"new-{uuid4().hex[:8]}@example.com"
    response = post("register", {"email": email.upper(), "password": PASSWORD, "name": "Ada"})
    told = response.json()
    assert response.status_code == 201, told
    assert (told["token_type"], told["expires_in"], told["refresh_expires_in"]) == ("Bearer", 900, 30 * 86400)
    assert (told["user"]["email"], told["user"]["name"], told["user"]["is_email_verified"]) == (email, "Ada", False)
    assert told["organization"]["role"] == "owner"
    assert "keys.manage" in told["organization"]["permissions"]
    assert get("/v1/auth/me", told["access_token"]).json()["email"] == email
    assert "set-cookie" not in response
    (letter,) = mail.outbox
    assert letter.to == [email]


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"email": "nobody"}, "email", "invalid_value"),
        ({"email": ""}, "email", "missing_required_parameter"),
        ({"email": ["a@example.com"]}, "email", "invalid_value"),
        ({"password": "short"}, "password", "invalid_value"),
        ({"password": "1234567890"}, "password", "invalid_value"),
        ({"password": "x" * 2000}, "password", "invalid_value"),
        ({"name": "x" * 121}, "name", "invalid_value"),
        ({"name": "a\x00b"}, "name", "invalid_value"),
    ],
)
def test_what_cannot_be_an_account_is_named(change, param, code):
    body = {"email": "new@example.com", "password": PASSWORD} | change
    assert assert_error(post("register", body), 400, code)["param"] == param
    assert not User.objects.exists()


def test_an_address_is_registered_once():
    user = somebody()
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    assert_error(post("register", {"email": user.email, "password": PASSWORD}), 400, "email_taken")


def test_where_addresses_must_be_confirmed_nobody_learns_who_is_there(settings):
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    there = somebody()
    EmailAddress.objects.create(user=there, email=there.email, verified=True, primary=True)
    answers = [
        post("register", {"email": email, "password": PASSWORD})
        for email in (there.email, f"new-{uuid4().hex[:6]}@example.com")
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert {tuple(answer.json()) for answer in answers} == {("object", "email", "is_email_confirmation_sent")}
    assert len(mail.outbox) == 2
    assert_error(post("login", {"email": answers[1].json()["email"], "password": PASSWORD}), 403, "email_not_verified")


# ---------------------------------------------------------------- Sign in


def test_signing_in_tells_who_one_is():
    user = somebody()
    works = organizations.create(name="Works", slug=f"works-{uuid4().hex[:6]}")
    Membership.objects.create(organization=works, user=user, role=Role.VIEWER)
    told = signed_in(user, organization=works.slug, client_name="a script")
    me = get("/v1/auth/me", told["access_token"]).json()
    assert (me["id"], me["email"]) == (str(user.public_id), user.email)
    assert (me["organization"]["slug"], me["organization"]["role"]) == (works.slug, "viewer")
    assert [one["role"] for one in me["organizations"]] == ["owner", "viewer"]
    assert (me["session"]["way"], me["session"]["client_name"]) == ("password", "a script")
    user.refresh_from_db()
    assert user.last_login


@pytest.mark.parametrize("change", [{"password": "wrong"}, {"email": "nobody@example.com"}])
def test_wrong_credentials_look_the_same(change):
    body = {"email": somebody().email, "password": PASSWORD} | change
    error = assert_error(post("login", body), 401, "invalid_credentials")
    assert error["message"] == "The email address or the password is not right."


def test_an_organization_of_others_cannot_be_chosen():
    body = {"email": somebody().email, "password": PASSWORD, "organization": customer().organization.slug}
    assert_error(post("login", body), 400, "invalid_value")


def test_guessing_passwords_is_stopped():
    user = somebody()
    for _ in range(5):
        assert_error(post("login", {"email": user.email, "password": "wrong"}), 401, "invalid_credentials")
    answer = post("login", {"email": user.email, "password": PASSWORD})
    assert_error(answer, 429, "too_many_attempts")
    assert answer["retry-after"]


def test_somebody_deactivated_cannot_sign_in():
    user = somebody(is_active=False)
    assert_error(post("login", {"email": user.email, "password": PASSWORD}), 401, "invalid_credentials")


# ---------------------------------------------------------------- A second factor


def with_authenticator(user: User) -> str:
    secret = totp.generate_totp_secret()
    totp.TOTP.activate(user, secret)
    return secret


def code_of(secret: str) -> str:
    return totp.format_hotp_value(totp.hotp_value(secret, next(iter(totp.yield_hotp_counters_from_time()))))


def test_a_second_factor_needs_its_code_once():
    user = somebody()
    secret = with_authenticator(user)
    body = {"email": user.email, "password": PASSWORD}
    error = assert_error(post("login", body), 401, "mfa_required")
    assert (error["param"], error["methods"]) == ("code", ["totp"])
    assert_error(post("login", body | {"code": "000000"}), 401, "mfa_invalid")
    code = code_of(secret)
    assert post("login", body | {"code": code}).status_code == 200
    assert_error(post("login", body | {"code": code}), 401, "mfa_invalid")


def test_a_recovery_code_works_once():
    user = somebody()
    with_authenticator(user)
    code = RecoveryCodes.activate(user).get_unused_codes()[0]
    body = {"email": user.email, "password": PASSWORD, "code": code}
    assert post("login", body).status_code == 200
    assert_error(post("login", body), 401, "mfa_invalid")


def test_guessing_codes_is_stopped():
    user = somebody()
    secret = with_authenticator(user)
    body = {"email": user.email, "password": PASSWORD}
    for _ in range(5):
        assert_error(post("login", body | {"code": "000000"}), 401, "mfa_invalid")
    assert_error(post("login", body | {"code": code_of(secret)}), 429, "too_many_attempts")


def test_who_has_only_a_passkey_is_sent_to_a_browser():
    user = somebody()
    Authenticator.objects.create(user=user, type=Authenticator.Type.WEBAUTHN, data={})
    error = assert_error(post("login", {"email": user.email, "password": PASSWORD}), 401, "mfa_required")
    assert "/v1/auth/device/code" in error["message"]


# ---------------------------------------------------------------- Tokens turn over


def test_a_refresh_token_works_once_and_its_copy_ends_the_session():
    first = signed_in(somebody())
    second = post("refresh", {"refresh_token": first["refresh_token"]}).json()
    third = post("refresh", {"refresh_token": second["refresh_token"]}).json()
    assert len({first["refresh_token"], second["refresh_token"], third["refresh_token"]}) == 3
    assert get("/v1/auth/me", third["access_token"]).status_code == 200
    assert_error(post("refresh", {"refresh_token": first["refresh_token"]}), 401, "refresh_token_reused")
    for token in (first["access_token"], third["access_token"]):
        assert_error(get("/v1/auth/me", token), 401, "invalid_api_key")
    assert_error(post("refresh", {"refresh_token": third["refresh_token"]}), 401, "invalid_refresh_token")
    ended = AuditEntry.objects.get(action="api_session.end")
    assert (ended.data["reason"], ended.target_id) == ("reuse", first["id"])


def test_a_lost_answer_is_given_again_for_a_while():
    first = signed_in(somebody())
    lost, told = (post("refresh", {"refresh_token": first["refresh_token"]}).json() for _ in range(2))
    ids = {jwt.decode(one["refresh_token"], options={"verify_signature": False})["jti"] for one in (lost, told)}
    assert len(ids) == 1
    for made in (lost, told):
        assert get("/v1/auth/me", made["access_token"]).status_code == 200
    third = post("refresh", {"refresh_token": told["refresh_token"]}).json()
    assert post("refresh", {"refresh_token": lost["refresh_token"]}).status_code == 200
    assert_error(post("refresh", {"refresh_token": first["refresh_token"]}), 401, "refresh_token_reused")
    assert_error(get("/v1/auth/me", third["access_token"]), 401, "invalid_api_key")


def test_a_lost_answer_survives_a_new_signing_key(settings):
    first = signed_in(somebody())
    post("refresh", {"refresh_token": first["refresh_token"]})
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "another-" * 8
    told = post("refresh", {"refresh_token": first["refresh_token"]}).json()
    assert post("refresh", {"refresh_token": told["refresh_token"]}).status_code == 200


@pytest.mark.parametrize(("grace", "since"), [(30, 31), (0, 0)])
def test_after_the_grace_a_second_use_is_theft(settings, grace, since):
    settings.JWT_REFRESH_GRACE_SECONDS = grace
    first = signed_in(somebody())
    second = post("refresh", {"refresh_token": first["refresh_token"]}).json()
    ApiSession.objects.update(refreshed_at=timezone.now() - timedelta(seconds=since))
    assert_error(post("refresh", {"refresh_token": first["refresh_token"]}), 401, "refresh_token_reused")
    assert_error(post("refresh", {"refresh_token": second["refresh_token"]}), 401, "invalid_refresh_token")


@pytest.mark.django_db(transaction=True)
def test_a_token_sent_many_times_at_once_has_one_successor():
    first = signed_in(somebody())

    def send(_: int) -> tuple[int, dict[str, Any]]:
        try:
            answer = post("refresh", {"refresh_token": first["refresh_token"]})
            return answer.status_code, answer.json()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(send, range(6)))
    assert [status for status, _ in answers] == [200] * 6
    told = [jwt.decode(one["refresh_token"], options={"verify_signature": False}) for _, one in answers]
    assert len({one["jti"] for one in told}) == 1
    assert post("refresh", {"refresh_token": answers[-1][1]["refresh_token"]}).status_code == 200


def test_a_token_is_good_for_one_thing_only():
    made = signed_in(somebody())
    assert_error(get("/v1/auth/me", made["refresh_token"]), 401, "invalid_api_key")
    assert_error(post("refresh", {"refresh_token": made["access_token"]}), 401, "invalid_refresh_token")


def test_a_token_of_other_hands_is_refused(settings):
    made = signed_in(somebody())
    claims = jwt.decode(made["access_token"], options={"verify_signature": False})
    forged = [
        jwt.encode(claims, "x" * 40, algorithm="HS256"),
        jwt.encode(claims, None, algorithm="none"),
        made["access_token"][:-4] + "AAAA",
        "eyJ.eyJ.x",
        "eyJ" + "." * 2,
        f"{made['access_token']}{'A' * 3000}",
    ]
    for token in forged:
        assert_error(get("/v1/auth/me", token), 401, "invalid_api_key")
    settings.SITE_URL = "https://elsewhere.example"
    assert_error(get("/v1/auth/me", made["access_token"]), 401, "invalid_api_key")


def test_an_access_token_ends_after_its_time(settings):
    settings.JWT_EXPIRES_IN = -1
    made = signed_in(somebody())
    assert_error(get("/v1/auth/me", made["access_token"]), 401, "invalid_api_key")
    settings.JWT_EXPIRES_IN = 60
    renewed = post("refresh", {"refresh_token": made["refresh_token"]}).json()
    assert get("/v1/auth/me", renewed["access_token"]).status_code == 200


def test_the_signing_key_rotates(settings):
    made = signed_in(somebody())
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "another-" * 8
    assert get("/v1/auth/me", made["access_token"]).status_code == 200
    settings.SECRET_KEY_FALLBACKS = []
    assert_error(get("/v1/auth/me", made["access_token"]), 401, "invalid_api_key")


def test_nothing_that_opens_a_session_is_stored():
    made = signed_in(somebody())
    row = str(ApiSession.objects.values().get())
    token_id = jwt.decode(made["refresh_token"], options={"verify_signature": False})["jti"]
    assert token_id not in row
    assert tokens.digest_of(token_id) in row


# ---------------------------------------------------------------- Ends


def test_logging_out_ends_the_session_at_once():
    made = signed_in(somebody())
    assert post("logout", {"refresh_token": made["refresh_token"]}).json()["ended"]
    assert_error(get("/v1/auth/me", made["access_token"]), 401, "invalid_api_key")
    assert_error(post("refresh", {"refresh_token": made["refresh_token"]}), 401, "invalid_refresh_token")
    assert post("logout", {"refresh_token": made["refresh_token"]}).json()["ended"]
    assert_error(post("logout", {"refresh_token": "nothing"}), 401, "invalid_api_key")
    assert_error(post("logout", {}), 401, "invalid_api_key")


def test_logging_out_everywhere_ends_all_sessions():
    user = somebody()
    one, other = signed_in(user), signed_in(user)
    strangers = signed_in(somebody())
    assert post("logout", {"everywhere": True}, one["access_token"]).status_code == 200
    assert_error(get("/v1/auth/me", other["access_token"]), 401, "invalid_api_key")
    assert get("/v1/auth/me", strangers["access_token"]).status_code == 200


def test_somebody_deactivated_is_out_at_once():
    user = somebody()
    made = signed_in(user)
    User.objects.filter(pk=user.pk).update(is_active=False)
    assert_error(get("/v1/auth/me", made["access_token"]), 401, "invalid_api_key")
    assert_error(post("refresh", {"refresh_token": made["refresh_token"]}), 401, "invalid_refresh_token")


def test_a_new_password_ends_the_sessions_of_the_old():
    user = somebody()
    made = signed_in(user)
    browser = Client()
    browser.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    fields = {"oldpassword": PASSWORD, "password1": "silver-oak-77-x", "password2": "silver-oak-77-x"}
    assert browser.post("/accounts/password/change/", fields).status_code == 302
    assert_error(get("/v1/auth/me", made["access_token"]), 401, "invalid_api_key")


def test_sessions_long_over_are_forgotten():
    user = somebody()
    signed_in(user)
    ApiSession.objects.update(ended_at=timezone.now() - timedelta(days=31))
    signed_in(user)
    assert ApiSession.objects.count() == 1


# ---------------------------------------------------------------- What a person may do with the API


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("owner", [200, 200, 200, 200, 201]),
        ("admin", [200, 200, 200, 200, 201]),
        ("developer", [200, 403, 403, 200, 201]),
        ("billing", [200, 200, 200, 200, 403]),
        ("viewer", [200, 403, 403, 200, 403]),
    ],
)
def test_a_role_is_what_a_token_may_do(role, expected):
    seller = customer(credit=50_000_000_000)
    user = somebody()
    Membership.objects.create(organization=seller.organization, user=user, role=role)
    token = signed_in(user, organization=seller.organization.slug)["access_token"]
    send = {"to": customer().organization.slug, "credits": "1"}
    headers = {"authorization": f"Bearer {token}"}
    got = [
        get("/v1/credits/balance", token).status_code,
        get("/v1/credits/transactions", token).status_code,
        Client().post("/v1/credits/transfer", send, content_type="application/json", headers=headers).status_code,
        get("/v1/auth/api-keys", token).status_code,
        post("api-keys", {"name": "made by hand"}, token).status_code,
    ]
    assert got == expected


def test_what_is_about_a_key_needs_one():
    token = signed_in(somebody())["access_token"]
    assert_error(get("/v1/key", token), 403, "api_key_required")
    headers = {"authorization": f"Bearer {token}"}
    body = {"userId": "bob", "model": "m", "requestType": "chat"}
    answer = Client().post("/v1/sdk/check", body, content_type="application/json", headers=headers)
    assert_error(answer, 403, "api_key_required")


def test_a_header_names_another_of_ones_organizations():
    user = somebody()
    works = organizations.create(name="Works", slug=f"works-{uuid4().hex[:6]}")
    Membership.objects.create(organization=works, user=user, role=Role.BILLING)
    token = signed_in(user)["access_token"]
    assert get("/v1/credits/balance", token).json()["organization"] != works.slug
    for name in (works.slug, str(works.public_id)):
        assert get("/v1/credits/balance", token, **{"openai-organization": name}).json()["organization"] == works.slug
    foreign = customer().organization.slug
    assert_error(get("/v1/credits/balance", token, **{"openai-organization": foreign}), 403, "not_a_member")


def test_who_leaves_may_nothing_more():
    user = somebody()
    works = organizations.create(name="Works", slug=f"works-{uuid4().hex[:6]}")
    membership = Membership.objects.create(organization=works, user=user, role=Role.ADMIN)
    token = signed_in(user, organization=works.slug)["access_token"]
    membership.delete()
    assert_error(get("/v1/auth/api-keys", token), 403, "not_a_member")


def test_a_frozen_organization_is_closed_to_its_people_too():
    user = somebody()
    token = signed_in(user)["access_token"]
    user.organizations.update(status="frozen")
    assert_error(get("/v1/credits/balance", token), 403, "organization_inactive")


# ---------------------------------------------------------------- Keys


def test_keys_are_made_listed_and_revoked():
    user = somebody()
    token = signed_in(user)["access_token"]
    fields = {"name": "ci", "scopes": ["chat", "models"], "rpm": 5, "allowed_ips": ["127.0.0.1"]}
    response = post("api-keys", fields, token)
    made = response.json()
    assert response.status_code == 201
    assert (made["scopes"], made["allowed_ips"], made["rpm"]) == (["chat", "models"], ["127.0.0.1/32"], 5)
    assert get("/v1/key", made["secret"]).json()["id"] == made["id"]
    (listed,) = get("/v1/auth/api-keys", token).json()["data"]
    assert "secret" not in listed
    assert made["secret"] not in str(listed)
    address = f"/v1/auth/api-keys/{made['id']}"
    headers = {"authorization": f"Bearer {token}"}
    for _ in range(2):
        assert Client().delete(address, headers=headers).json() == {
            "id": made["id"], "object": "api_key", "deleted": True,
        }  # fmt: skip
    assert_error(get("/v1/key", made["secret"]), 401, "invalid_api_key")
    assert get(address, token).json()["is_live"] is False
    assert AuditEntry.objects.get(action="key.revoke").actor == user


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "name"),
        ({"name": " "}, "name"),
        ({"name": "a", "scopes": ["everything"]}, "scopes"),
        ({"name": "a", "scopes": "chat"}, "scopes"),
        ({"name": "a", "allowed_ips": ["300.0.0.1"]}, "allowed_ips"),
        ({"name": "a", "rpm": 0}, "rpm"),
        ({"name": "a", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
    ],
)
def test_a_key_that_breaks_a_rule_is_not_made(fields, param):
    token = signed_in(somebody())["access_token"]
    assert assert_error(post("api-keys", fields, token), 400, "invalid_value")["param"] == param


def test_a_key_has_budgets_like_those_of_its_page(django_assert_max_num_queries):
    token = signed_in(somebody())["access_token"]
    caps = [{"period": "day", "unit": "tokens", "cap": 5000}, {"period": "month", "unit": "credits", "cap": "12.5"}]
    made = post("api-keys", {"name": "ci", "budgets": caps}, token).json()

    def told(key: dict[str, Any]) -> list[tuple[Any, ...]]:
        return [(cap["period"], cap["unit"], cap["cap"], cap["scope"]) for cap in key["budgets"]]

    assert told(made) == [("day", "tokens", 5000, "key"), ("month", "credits", "12.5000", "key")]
    post("api-keys", {"name": "free"}, token)
    with django_assert_max_num_queries(8):
        listed = get("/v1/auth/api-keys", token).json()["data"]
    assert [told(key) for key in listed] == [[], told(made)]
    assert len(get("/v1/key", made["secret"]).json()["budgets"]) == 2
    for caps, expected in (
        ([{"period": "day", "unit": "credits", "cap": 3}], [("day", "credits", "3.0000", "key")]),
        ([], []),
    ):
        changed = patch(f"api-keys/{made['id']}", {"budgets": caps}, token)
        assert (changed.status_code, told(changed.json())) == (200, expected)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"budgets": [{"period": "week", "unit": "credits", "cap": 1}]}, "budgets.0.period"),
        ({"budgets": [{"period": "day", "unit": "credits", "cap": "much"}]}, "budgets"),
        ({"budgets": [{"period": "day", "unit": "tokens", "cap": 0}]}, "budgets"),
        ({"budgets": [{"period": "day", "unit": "tokens", "cap": 1}] * 2}, "budgets"),
        ({"budgets": 7}, "budgets"),
        ({"budgets": [], "scopes": ["chat"]}, "scopes"),
        ({"budgets": [], "rpm": 0}, "rpm"),
        ({"budgets": [], "allowed_ips": ["nowhere"]}, "allowed_ips"),
        ({"budgets": [], "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
    ],
)
def test_a_budget_that_breaks_a_rule_changes_nothing(body, param):
    token = signed_in(somebody())["access_token"]
    cap = {"period": "day", "unit": "tokens", "cap": 9}
    made = post("api-keys", {"name": "ci", "budgets": [cap]}, token).json()
    assert assert_error(patch(f"api-keys/{made['id']}", body, token), 400, "invalid_value")["param"] == param
    if body.get("budgets"):
        assert_error(post("api-keys", {"name": "new"} | body, token), 400, "invalid_value")
    (listed,) = get("/v1/auth/api-keys", token).json()["data"]
    assert [one["cap"] for one in listed["budgets"]] == [9]


def test_the_name_and_the_limits_of_a_key_are_changed():
    token = signed_in(somebody())["access_token"]
    made = post("api-keys", {"name": "ci", "rpm": 9, "allowed_models": ["gpt-fast"]}, token).json()
    body = {"name": "cd", "rpm": None, "tpm": 500, "allowed_ips": ["203.0.113.7"]}
    changed = patch(f"api-keys/{made['id']}", body, token)
    told = changed.json()
    assert (changed.status_code, told["name"], told["rpm"], told["tpm"]) == (200, "cd", None, 500)
    assert (told["allowed_ips"], told["allowed_models"]) == (["203.0.113.7/32"], ["gpt-fast"])
    (entry,) = AuditEntry.objects.filter(action="key.change")
    assert entry.data == {"name": "cd", "rpm": None, "tpm": 500, "allowed_ips": ["203.0.113.7/32"]}
    assert patch(f"api-keys/{made['id']}", body, token).status_code == 200
    assert AuditEntry.objects.filter(action="key.change").count() == 1
    Client().delete(f"/v1/auth/api-keys/{made['id']}", headers={"authorization": f"Bearer {token}"})
    assert_error(patch(f"api-keys/{made['id']}", {"name": "again"}, token), 400, "invalid_value")


def test_only_who_may_set_budgets_sets_them_with_a_key():
    works = organizations.create(name="Works", slug=f"works-{uuid4().hex[:6]}")
    user = somebody()
    Membership.objects.create(organization=works, user=user, role=Role.DEVELOPER)
    token = signed_in(user, organization=works.slug)["access_token"]
    made = post("api-keys", {"name": "free", "budgets": []}, token).json()
    budgets = [{"period": "day", "unit": "tokens", "cap": 9}]
    assert_error(post("api-keys", {"name": "ci", "budgets": budgets}, token), 403, "role")
    assert_error(patch(f"api-keys/{made['id']}", {"budgets": []}, token), 403, "role")
    assert patch(f"api-keys/{made['id']}", {"allowed_ips": []}, token).status_code == 200
    assert works.keys.count() == 1
    others = keys.issue(organization=works, name="of an admin", by=somebody(), allowed_ips=["::1"]).key
    assert_error(patch(f"api-keys/{others.public_id}", {"allowed_ips": []}, token), 403, "role")
    Membership.objects.filter(user=user).update(role=Role.ADMIN)
    assert patch(f"api-keys/{others.public_id}", {"allowed_ips": []}, token).status_code == 200


def test_keys_of_others_are_not_there():
    token = signed_in(somebody())["access_token"]
    other = customer()
    address = f"/v1/auth/api-keys/{other.key.public_id}"
    assert_error(get(address, token), 404, "not_found")
    assert_error(Client().delete(address, headers={"authorization": f"Bearer {token}"}), 404, "not_found")
    assert_error(get("/v1/auth/api-keys", other.secret), 401, "invalid_api_key")


def test_keys_come_in_pages():
    user = somebody()
    token = signed_in(user)["access_token"]
    for number in range(3):
        post("api-keys", {"name": f"key {number}"}, token)
    first = get("/v1/auth/api-keys?limit=2", token).json()
    rest = get(f"/v1/auth/api-keys?limit=2&after={first['next']}", token).json()
    assert [key["name"] for key in first["data"] + rest["data"]] == ["key 2", "key 1", "key 0"]
    assert (first["has_more"], rest["has_more"], rest["next"]) == (True, False, None)
