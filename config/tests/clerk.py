"""A Django process that does what a test asks, one JSON line at a time: `["verb", {arguments}]` -> `{"result": …}`.

Tests that run the product's real processes have a database of their own, so they cannot use pytest's Django; they talk
to this process through `config.tests.processes.Clerk`. It calls the product's own verbs and nothing else.
"""
# ruff: noqa: E402 - Django must be set up before its models are imported

import json
import os
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django

django.setup()

from django.core.management import CommandError, call_command
from django.db import connections
from django.test import override_settings

from accounts import keys, organizations
from accounts.models import ApiKey, Organization
from billing import budgets, codes, ledger, reaper, reconciliation, settlement
from billing import rates as price_book
from billing import top_up as top_ups
from gallery import keeping
from proxy import outlook, providers
from proxy.models import Model, Provider
from status import tasks as status_tasks

PER_MILLION = 1_000_000


def organization(*, name: str, credit_nanos: int = 0, **limits: Any) -> dict[str, Any]:
    """A new organization with a key and credit."""
    made = organizations.create(name=name)
    account = ledger.account_of(made)
    if credit_nanos:
        grant(organization_id=made.pk, amount_nanos=credit_nanos)
    issued = issue_key(organization_id=made.pk, **limits)
    return {"id": made.pk, "slug": made.slug, "account_id": account.pk, **issued}


def issue_key(*, organization_id: int, **limits: Any) -> dict[str, Any]:
    issued = keys.issue(organization=Organization.objects.get(pk=organization_id), name="test", **limits)
    return {"key_id": issued.key.pk, "secret": issued.secret}


def revoke_key(*, key_id: int) -> None:
    keys.revoke(key=ApiKey.objects.get(pk=key_id), by=None)


def cap(*, key_id: int, cost_nanos: int) -> None:
    """The most that a key may ever cost."""
    budgets.set_for_key(key=ApiKey.objects.get(pk=key_id), period="total", cost_cap_nanos=cost_nanos, token_cap=None)


def grant(*, organization_id: int, amount_nanos: int) -> None:
    ledger.grant(
        organization=Organization.objects.get(pk=organization_id),
        amount=amount_nanos,
        reason="test",
        idempotency_key=f"test:{os.urandom(8).hex()}",
    )


def code(*, credits_: int) -> str:
    """A redeem code."""
    return codes.create(credits=credits_)


def top_up(*, payments: dict[str, str]) -> int:
    """Buy for whoever wants it bought by itself, at the Stripe that these settings name; how many bought."""
    with override_settings(**payments):
        return top_ups.run()


def model(
    *,
    name: str,
    base_url: str,
    upstream_name: str,
    prices: dict[str, int] | None = None,
    rates: dict[str, Any] | None = None,
    kind: str = "openai-compatible",
    api_key: str = "",
    endpoints: list[str] | None = None,
) -> None:
    """A model with one deployment. `prices` are nano-dollars per token, by the names of `Rate`'s components; `rates`
    is the price as the catalogue has it."""
    slug = f"{kind}-{urlsplit(base_url).port}"
    provider = Provider.objects.filter(slug=slug).first() or providers.create(
        slug=slug, kind=kind, base_url=base_url, api_key=api_key, allow_private=True
    )
    made = Model.objects.create(name=name, owned_by="test", endpoints=endpoints or [])
    per_million = {token: price * PER_MILLION for token, price in (prices or {}).items()}
    price_book.set_price(model=name, rates=rates, **per_million)
    providers.deploy(model=made, provider=provider, upstream_name=upstream_name)


def models(*, names: list[str], **options: Any) -> None:
    for name in names:
        model(name=name, **options)


def settle(*, together: int = settlement.ACCOUNTS) -> None:
    """Turn every usage record into transfers, as Celery does; so many accounts in a commit."""
    with patch.object(settlement, "ACCOUNTS", together):
        settlement.settle_all()


def reap(*, dead_after_s: float) -> int:
    """Settle the holds of workers that were silent for so long, as Celery does."""
    return reaper.reap(dead_after=timedelta(seconds=dead_after_s))


def reconcile() -> dict[str, Any]:
    """What the checker finds; `drift` is empty when the books are right."""
    return {"drift": [str(drift) for drift in reconciliation.check()]}


def reconcile_command() -> bool:
    """Whether `manage.py reconcile` is content."""
    try:
        call_command("reconcile")
    except (CommandError, SystemExit):
        return False
    return True


def look() -> None:
    """Look at the services of the status page, as Celery does every 15 s."""
    outlook.keep_services()
    status_tasks.look()


def store_images() -> int:
    """Move spooled images into the storage, as Celery does."""
    return keeping.store_due()


VERBS: dict[str, Callable[..., Any]] = {
    verb.__name__: verb
    for verb in (
        code,
        top_up,
        organization,
        issue_key,
        revoke_key,
        cap,
        grant,
        model,
        models,
        settle,
        reap,
        reconcile,
        reconcile_command,
        look,
        store_images,
    )
}


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        verb, arguments = json.loads(line)
        connections.close_all()  # PostgreSQL may have been restarted since
        try:
            answer: dict[str, Any] = {"result": VERBS[verb](**arguments)}
        except Exception:  # whatever it is, the test shall see it
            answer = {"error": traceback.format_exc()[-3000:]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
