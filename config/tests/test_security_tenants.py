"""Tenant escape (OWASP API1, API3, API5): every address of the management API × every way to be somebody else.

Two organizations; the caller is one's key, a member's access token or a device's session; what is named is the other's.
"""

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import URLPattern

from accounts import api_sessions, events
from accounts.models import ApiKey, ApiSession, Event, Membership, Organization, Role
from accounts.tests.factories import UserFactory
from billing import blocks, ledger
from billing.models import Account, EndUserBlock, Hold, Transfer, UsageRecord
from config.tests import pages_kit
from gallery.models import Image
from gallery.tests import kit as gallery_kit
from proxy import catalog
from proxy.api.urls import urlpatterns
from proxy.tests import api_kit
from proxy.tests.api_kit import ApiClient, assert_error

pytestmark = pytest.mark.django_db

CANARY = "canary-7f3a"
KEY, PERSON, DEVICE = "key", "access token", "device"
CALLERS = (KEY, PERSON, DEVICE)
METHODS = ("get", "post", "put", "patch", "delete")
USE: dict[str, Any] = {"userId": "somebody", "model": "m", "requestType": "chat"}
ORGANIZATION_FIELDS = ("organization", "organization_id", "org", "tenant", "account_id", "created_by", "user_id", "by")

# By the name of the address: what stands in it, and the body. `{…}` are ids of the other organization.
PLACES: dict[str, dict[str, Any]] = {
    "admin-key-revoke": {"which": "{key}"},
    "admin-key-usage": {"which": "{key}"},
    "admin-user-usage": {"end_user": f"{CANARY}-user"},
    "admin-user-block": {"end_user": f"{CANARY}-user"},
    "admin-user-unblock": {"end_user": f"{CANARY}-user"},
    "admin-user-threshold": {"end_user": f"{CANARY}-user"},
    "api-key": {"public_id": "{key}"},
    "device-status": {"device_code": "x"},
    "image": {"public_id": "{image}"},
    "public-keys-of": {"username": CANARY},
    "receipt": {"request_id": "{request}"},
}
BODIES: dict[str, dict[str, Any]] = {
    "admin-credits-adjust": {"organization": "{slug}", "credits": "5", "reason": "x"},
    "admin-credits-deposit": {"organization": "{slug}", "credits": "5", "reason": "x"},
    "admin-credits-deduct": {"organization": "{slug}", "credits": "5", "reason": "x"},
    "admin-keys": {"organization": "{slug}", "name": "mine"},
    "api-keys": {"name": "mine"},
    "credit-purchase": {"pack_id": "popular"},
    "credit-transfer": {"to": "{slug}", "credits": "1"},
    "image": {"visibility": "public"},
    "sdk-cancel": {"reservationId": "{hold}"},
    "sdk-check": USE | {"userId": f"{CANARY}-user"},
    "sdk-commit": {"reservationId": "{hold}", "inputTokens": 1},
    "sdk-record": USE | {"inputTokens": 1},
    "sdk-reserve": USE | {"inputTokens": 1, "outputTokens": 1},
}
# Open to everybody: nobody's data is there.
PUBLIC = {"device-code", "device-token", "device-status", "login", "logout", "refresh", "register", "openapi"}
PUBLIC |= {"public-keys", "public-keys-of", "unknown"}
# Refused to whoever is no operator, whatever is asked.
ECHOES = {"sdk-check"}  # repeats the end user that the caller named
OPERATORS = {str(pattern.name) for pattern in urlpatterns if str(pattern.name).startswith("admin-")}


@dataclass
class World:
    """Ours, from where calls are made, and theirs, of which nothing may be seen or changed."""

    ours: ApiClient
    theirs: ApiClient
    tokens: dict[str, str]
    ids: dict[str, str] = field(default_factory=dict)

    def call(self, caller: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
        sent = {"authorization": f"Bearer {self.tokens[caller]}"} | headers
        if method == "get":
            return Client().get(path, headers=sent)
        return getattr(Client(), method)(path, body or {}, content_type="application/json", headers=sent)

    def state(self) -> dict[str, Any]:
        """All of theirs that a call could have changed."""
        mine = {"organization": self.theirs.organization}
        rows = {
            model.__name__: list(model.objects.filter(**mine).order_by("pk").values())
            for model in (ApiKey, Image, UsageRecord, Hold, Event, EndUserBlock, Membership)
        }
        account = Account.objects.get(**mine)
        return rows | {"account": (account.posted, account.held, account.unsettled, account.status)}


@pytest.fixture
def world(settings: Any, monkeypatch: pytest.MonkeyPatch) -> World:
    settings.ADMIN_TOKEN = "the-operators-token-of-32-letters"
    settings.DEFAULT_RPM = 0
    monkeypatch.setattr(catalog, "close_old_connections", lambda: None)  # the test's transaction lives in it
    cache.clear()
    api_kit.model("m")
    ours, theirs = api_kit.customer(), api_kit.customer(credit=10**12)
    Organization.objects.filter(pk=theirs.organization.pk).update(name=f"{CANARY} Ltd", slug=f"{CANARY}-org")
    theirs.organization.refresh_from_db()
    user = UserFactory()
    Membership.objects.create(organization=ours.organization, user=user, role=Role.OWNER)
    tokens = {KEY: ours.secret}
    for caller, way in ((PERSON, ApiSession.Way.PASSWORD), (DEVICE, ApiSession.Way.DEVICE)):
        tokens[caller] = api_sessions.begin(user=user, organization=ours.organization, way=way).access
    found = World(ours, theirs, tokens)
    found.ids = _belongings(theirs)
    return found


def _belongings(theirs: ApiClient) -> dict[str, str]:
    """One of everything, each with the canary in it; their ids."""
    key = pages_kit.key_of(theirs.organization, name=f"{CANARY}-key")
    record = pages_kit.request_of(key, end_user=f"{CANARY}-user", run_id=CANARY)
    image = gallery_kit.kept(theirs.organization, is_stored=False, prompt=f"{CANARY} in the snow")
    blocks.block(organization=theirs.organization, end_user=f"{CANARY}-user", reason=CANARY, by=None)
    events.record(organization=theirs.organization, kind="key.created", data={"name": CANARY})
    ledger.grant(organization=theirs.organization, amount=7, reason=CANARY, idempotency_key=uuid4().hex)
    hold = Hold.objects.create(
        request_id=uuid4(), account=ledger.account_of(theirs.organization), organization=theirs.organization, key=key,
        amount=5, model="m", endpoint="/v1/chat/completions", worker=uuid4(), end_user=f"{CANARY}-user",
    )  # fmt: skip
    return {
        "key": str(key.public_id),
        "request": f"req_{record.request_id.hex}",
        "image": str(image.public_id),
        "slug": theirs.organization.slug,
        "hold": str(hold.pk),
    }


def _filled(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(inner, ids) for name, inner in value.items()}
    return value.format(**ids) if isinstance(value, str) else value


def _path(pattern: URLPattern, ids: dict[str, str]) -> str:
    route = str(pattern.pattern)
    for name, value in _filled(PLACES.get(str(pattern.name), {}), ids).items():
        for kind in ("str", "uuid", "path"):
            route = route.replace(f"<{kind}:{name}>", value)
    assert "<" not in route, f"say in PLACES what stands in {pattern.name}"
    return f"/v1/{route}"


ADDRESSES = [pattern for pattern in urlpatterns if pattern.name not in PUBLIC]


@pytest.mark.parametrize("caller", CALLERS)
def test_nothing_of_another_organization_is_seen_or_changed(caller: str, world: World) -> None:
    before = world.state()
    for pattern in ADDRESSES:
        name, path = str(pattern.name), _path(pattern, world.ids)
        given = _filled(BODIES.get(name, {}), world.ids)
        for method in METHODS:
            answer = world.call(caller, method, path, given)
            what = (name, method, answer.status_code, told := answer.content.decode())
            assert answer.status_code < 500, what
            assert answer["content-type"].startswith(("application/json", "text/csv")), what
            if name in OPERATORS:
                assert answer.status_code in {401, 403, 405}, what
            if name not in ECHOES:
                assert CANARY not in told, what
        assert world.state() == before, name


@pytest.mark.parametrize("caller", CALLERS)
def test_no_field_and_no_parameter_names_another_tenant(caller: str, world: World) -> None:
    """The organization is the credential's: whoever names another one in a query or body gets their own or an error."""
    before = world.state()
    foreign = dict.fromkeys(ORGANIZATION_FIELDS, world.theirs.organization.slug)
    query = "&".join(f"{name}={value}" for name, value in foreign.items())
    for pattern in ADDRESSES:
        name, path = str(pattern.name), _path(pattern, world.ids)
        for method in ("get", "post"):
            body = _filled(BODIES.get(name, {}), world.ids) | foreign
            answer = world.call(caller, method, f"{path}?{query}&mine=1", body)
            told = answer.content.decode()
            assert answer.status_code < 500, (name, method, told)
            for secret in (f"{CANARY} Ltd", f"{CANARY}-key", f"{CANARY} in the snow"):
                assert secret not in told, (name, method, told)
        assert world.state() == before, name


@pytest.mark.parametrize("caller", [PERSON, DEVICE])
def test_the_organization_header_opens_no_other_organization(caller: str, world: World) -> None:
    for pattern in ADDRESSES:
        path = _path(pattern, world.ids)
        for named in (world.theirs.organization.slug, str(world.theirs.organization.public_id)):
            for method in ("get", "post"):
                answer = world.call(caller, method, path, **{"openai-organization": named})
                assert answer.status_code in {403, 405}, (pattern.name, method, answer.content)


def test_a_device_is_held_to_its_organization_though_its_person_has_another(world: World) -> None:
    session = ApiSession.objects.get(way=ApiSession.Way.DEVICE)
    Membership.objects.create(organization=world.theirs.organization, user=session.user, role=Role.OWNER)
    header = {"openai-organization": world.theirs.organization.slug}
    assert_error(world.call(DEVICE, "get", "/v1/credits/balance", **header), 403, "not_a_member")
    assert world.call(PERSON, "get", "/v1/credits/balance", **header).status_code == 200


def test_every_address_asks_who_calls_unless_it_is_said_to_be_public(world: World) -> None:
    """Deny by default: an address that is added without a word here must refuse strangers (OWASP API2, API9)."""
    for pattern in ADDRESSES:
        path = _path(pattern, world.ids)
        for method in METHODS:
            for secret in ("", "Bearer x", "Basic eDp5", "Bearer eyJhbGciOiJub25lIn0.e30."):
                headers = {"authorization": secret} if secret else {}
                more = {} if method == "get" else {"content_type": "application/json"}
                answer = getattr(Client(), method)(path, headers=headers, **more)
                # Public images are for everybody; without a bearer token one is nobody in particular.
                is_open = pattern.name in {"images", "image"} and not secret.startswith("Bearer")
                expected = {200, 403, 404, 405} if is_open else {401, 403, 405}
                assert answer.status_code in expected, (pattern.name, method, secret, answer.content)
                assert CANARY not in answer.content.decode()


def test_a_person_may_not_raise_their_own_role_by_extra_fields(world: World) -> None:
    """Mass assignment: what a body says of roles, owners, digests and dates is not read (LiteLLM CVE-2026-47101)."""
    extra = {
        "id": str(uuid4()), "public_id": str(uuid4()), "digest": "0" * 64, "created_by": 1, "revoked_at": None,
        "organization": world.theirs.organization.slug, "role": "owner", "is_staff": True, "scopes": ["management"],
        "prefix": "sk-tup-aaaaaaaaaaaa", "rotated_from": 1, "last_used_at": "2020-01-01T00:00:00Z",
    }  # fmt: skip
    told = world.call(PERSON, "post", "/v1/auth/api-keys", {"name": "mine"} | extra).json()
    made = ApiKey.objects.get(public_id=told["id"])
    assert told["id"] not in {extra["id"], extra["public_id"]}
    assert (made.organization, made.digest == extra["digest"]) == (world.ours.organization, False)
    assert made.created_by == ApiSession.objects.get(way=ApiSession.Way.PASSWORD).user
    assert (made.prefix == extra["prefix"], made.rotated_from, made.last_used_at) == (False, None, None)
    assert not made.created_by.is_staff


def test_the_scope_of_staff_is_not_for_customers(world: World) -> None:
    for caller in (PERSON, DEVICE):
        answer = world.call(caller, "post", "/v1/auth/api-keys", {"name": "x", "scopes": ["admin"]})
        assert_error(answer, 400, answer.json()["error"]["code"])
    assert not ApiKey.objects.filter(scopes__contains=["admin"]).exists()


def test_a_transfer_moves_nothing_that_is_not_ours(world: World) -> None:
    """The sender is the credential's organization; a negative amount is no way to take."""
    for credits in ("1", "-1", "0", "1e9", "NaN", "Infinity", "-0.0001"):
        answer = world.call(KEY, "post", "/v1/credits/transfer", {"to": world.ids["slug"], "credits": credits})
        assert answer.status_code in {400, 429}, (credits, answer.content)
    assert not Transfer.objects.filter(kind=Transfer.Kind.MOVE).exists()
