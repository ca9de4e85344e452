"""An organization with a key and credit, and a teller on the test database."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import connection
from uuid_utils import uuid7

from accounts import keys, organizations
from accounts.models import ApiKey, Organization
from billing import ledger
from billing.models import Account
from billing.teller import Capture, HoldRequest, Teller


def new_id() -> UUID:
    return UUID(bytes=uuid7().bytes)


@dataclass
class Customer:
    """An organization, its account and its key; makes what the teller takes."""

    organization: Organization
    key: ApiKey
    account_id: int

    def hold(self, amount: int, *, tokens: int = 0, **more: Any) -> HoldRequest:
        more = {"request_id": new_id(), "key_id": self.key.pk, "model": "m", "endpoint": "/v1/chat/completions"} | more
        return HoldRequest(
            account_id=self.account_id, organization_id=self.organization.pk, amount=amount, tokens=tokens, **more
        )

    def capture(self, hold: HoldRequest | UUID, cost: int, **more: Any) -> Capture:
        if isinstance(hold, HoldRequest):
            more = {"hold": hold.amount, "end_user": hold.end_user, "run_id": hold.run_id} | more
            hold = hold.request_id
        return Capture(
            request_id=hold,
            account_id=self.account_id,
            organization_id=self.organization.pk,
            key_id=self.key.pk,
            model="m",
            endpoint="/v1/chat/completions",
            cost=cost,
            **more,
        )

    @property
    def account(self) -> Account:
        return Account.objects.get(pk=self.account_id)

    @property
    def available(self) -> int:
        return self.account.available


def make_customer(credit: int = 0) -> Customer:
    """A customer with an open account, a key, and credit in n$."""
    organization = organizations.create(name=f"org {uuid4().hex[:8]}")
    key = keys.issue(organization=organization, name="test").key
    if credit:
        ledger.grant(organization=organization, amount=credit, reason="test", idempotency_key=uuid4().hex)
    return Customer(organization, key, ledger.account_of(organization).pk)


@pytest.fixture
def new_customer(transactional_db: None) -> Callable[..., Customer]:
    return make_customer


@pytest.fixture
def customer(new_customer: Callable[..., Customer]) -> Customer:
    """A customer with 1,000 n$."""
    return new_customer(1000)


@pytest.fixture
def dsn(transactional_db: None) -> str:
    parameters = connection.get_connection_params()
    names = {"dbname", "user", "password", "host", "port"}
    return psycopg.conninfo.make_conninfo(**{name: value for name, value in parameters.items() if name in names})


class Run:
    """Runs coroutines in one event loop that lives as long as the test; between them it stands still."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner

    def __call__(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(coroutine)

    def together(self, *coroutines: Coroutine[Any, Any, Any], return_exceptions: bool = False) -> list[Any]:
        """Run all at the same time; their results in the order given."""

        async def gather() -> list[Any]:
            return await asyncio.gather(*coroutines, return_exceptions=return_exceptions)

        return self._runner.run(gather())


@pytest.fixture
def run() -> Iterator[Run]:
    with asyncio.Runner() as runner:
        yield Run(runner)


@pytest.fixture
def teller(dsn: str, run: Run) -> Iterator[Teller]:
    teller = Teller(dsn)
    run(teller.start())
    yield teller
    run(teller.close())
