"""Celery's own worker and beat settle what the gateway charged, and go on when Redis was gone."""

import httpx
import pytest

from config.tests import books
from config.tests.processes import Installation, Service, wait_for
from config.tests.scripted import Upstream

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("sandbox")]

OUTPUT, TOKENS = 1_000, 16
COST = TOKENS * OUTPUT
CREDIT = 100 * COST


def test_usage_becomes_transfers_by_itself(site: Installation, web: Service, upstream: Upstream) -> None:
    prices = {"input": 0, "output": OUTPUT}
    site.clerk.model(name="worked", base_url=upstream.base_url, upstream_name="m", prices=prices)
    customer = site.clerk.organization(name="worked", credit_nanos=CREDIT)
    body = {"model": "worked", "max_tokens": TOKENS, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {customer['secret']}"}

    def call() -> None:
        answer = httpx.post(f"{web.url}/v1/chat/completions", json=body, headers=headers, timeout=20)
        assert answer.status_code == 200

    def is_settled(count: int) -> bool:
        account = books.account(site, customer["account_id"])
        return (account.posted, account.unsettled) == (CREDIT - count * COST, 0)

    worker = site.worker()
    try:
        for _ in range(3):
            call()
        wait_for(lambda: is_settled(3), timeout_s=40, what="Celery settles three requests")
        site.redis.stop()
        call()
        site.redis.start()
        wait_for(lambda: is_settled(4), timeout_s=60, what="Celery settles again after Redis was away", every_s=0.3)
    finally:
        worker.stop()
    books.prove(site, customer, credit=CREDIT, spent=4 * COST)
