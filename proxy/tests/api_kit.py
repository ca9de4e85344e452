"""A client of the management API: an organization with a key and credit, and models at prices easy to reckon with."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import redis
from django.conf import settings
from django.test import Client

from accounts import keys, organizations
from accounts.models import ApiKey, Organization
from billing import ledger, rates
from billing.models import Account
from proxy.models import Deployment, Model, Provider

# $1 per million input tokens, $2 per million output tokens: 1,000 and 2,000 nano-dollars a token.
INPUT, OUTPUT = 1_000_000_000, 2_000_000_000


@dataclass
class ApiClient:
    organization: Organization
    key: ApiKey
    secret: str

    def get(self, path: str, **headers: str) -> Any:
        return Client().get(path, headers={"authorization": f"Bearer {self.secret}"} | headers)

    def post(self, path: str, body: Any, **headers: str) -> Any:
        return Client().post(
            path, body, content_type="application/json", headers={"authorization": f"Bearer {self.secret}"} | headers
        )

    @property
    def account(self) -> Account:
        return Account.objects.get(organization=self.organization)


def customer(credit: int = 0, **key_fields: Any) -> ApiClient:
    """An organization with `credit` nano-dollars."""
    organization = organizations.create(name=f"org {uuid4().hex[:8]}")
    issued = keys.issue(organization=organization, name="server", **key_fields)
    if credit:
        ledger.grant(organization=organization, amount=credit, reason="test", idempotency_key=uuid4().hex)
    _forget_rates(issued.key)
    return ApiClient(organization, issued.key, issued.secret)


def _forget_rates(key: ApiKey) -> None:
    """An earlier run of the tests may have left cells of another key with this number."""
    client = redis.Redis.from_url(settings.REDIS_URL)
    client.delete(*(f"rl:{{{key.pk}}}:{cell}" for cell in "rtm"))
    client.close()


def model(name: str = "m", *, priced: bool = True, **fields: Any) -> Model:
    """A model that is served, at $1 and $2 per million tokens."""
    provider, _ = Provider.objects.get_or_create(
        slug="up", defaults={"kind": "openai-compatible", "base_url": "http://upstream.test/v1"}
    )
    made = Model.objects.create(name=name, **fields)
    Deployment.objects.create(model=made, provider=provider, upstream_name=name)
    if priced:
        rates.set_price(model=name, input=INPUT, output=OUTPUT)
    return made


def assert_error(response: Any, status: int, code: str) -> dict[str, Any]:
    """OpenAI's shape, and nothing else."""
    assert response.status_code == status, response.content
    assert response["content-type"].startswith("application/json")
    assert response["x-request-id"].startswith("req_")
    error = response.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    assert error["code"] == code
    return error
