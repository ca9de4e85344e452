"""Keys for whoever asks, where the operator has switched that on."""

from uuid import uuid4

import pytest
from django.core.cache import cache
from django.test import Client

from accounts import self_service
from accounts.models import ApiKey

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _on(settings):
    cache.clear()
    settings.SELF_SERVICE_KEYS = True


def post(**body: object):
    return Client().post("/v1/public/keys", body, content_type="application/json")


def test_it_is_not_there_unless_switched_on(settings):
    settings.SELF_SERVICE_KEYS = False
    for answer in (post(username="alice"), Client().get("/v1/public/keys/alice")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
    assert Client().get("/request-key").status_code == 404


def test_a_key_is_given_once_and_listed_masked():
    answer = post(username="Alice", note="team tool")
    made = answer.json()
    assert (answer.status_code, made["username"], made["note"]) == (201, "alice", "team tool")
    headers = {"authorization": f"Bearer {made['secret']}"}
    told = Client().get("/v1/key", headers=headers).json()
    assert (told["organization"], told["name"]) == ("self-service", "alice")
    (listed,) = Client().get("/v1/public/keys/alice").json()["data"]
    assert listed["key"] == f"{made['secret'][:11]}…{made['secret'][-4:]}"
    assert made["secret"] not in str(listed)
    assert Client().get("/v1/public/keys/bob").json()["data"] == []


def test_such_a_key_manages_nothing():
    headers = {"authorization": f"Bearer {post(username='alice').json()['secret']}"}
    answer = Client().get("/v1/credits/transactions", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "scope_missing")


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 65, "-a", None, ["alice"]])
def test_a_name_that_is_none_is_refused(name):
    answer = post(username=name)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "username")


def test_one_name_has_so_many_keys(monkeypatch):
    monkeypatch.setattr(self_service, "MAX_KEYS", 2)
    assert [post(username="alice").status_code for _ in range(3)] == [201, 201, 409]
    assert post(username="bob").status_code == 201


def test_the_page_shows_a_key_once():
    fields = {"token": str(uuid4()), "username": "alice", "note": "mine"}
    page = Client().post("/request-key", fields)
    assert page.status_code == 201
    assert ApiKey.objects.get().prefix in page.content.decode()
    assert Client().post("/request-key", fields).status_code == 422
    assert ApiKey.objects.count() == 1
    listed = Client().get("/request-key", {"username": "alice"}).content.decode()
    assert ApiKey.objects.get().masked in listed
    assert Client().post("/request-key", fields | {"username": "a b"}).status_code == 422
