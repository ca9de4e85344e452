"""An upstream fails and recovers; the status page, its feeds and a subscriber hear of both."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from config.tests.processes import Installation, Service, wait_for
from config.tests.scripted import Upstream

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("sandbox")]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """One that no other test makes fail."""
    with Upstream() as server:
        yield server


def test_an_incident_opens_and_ends_by_itself(site: Installation, web: Service, upstream: Upstream) -> None:
    prices = {"input": 1, "output": 1}
    site.clerk.model(name="watched", base_url=upstream.base_url, upstream_name="m", prices=prices)
    customer = site.clerk.organization(name="watched", credit_nanos=10**9)
    site.query(
        "INSERT INTO status_subscriber (email, url, secret_encrypted, token, asked_at, confirmed_at) "
        "VALUES ('ada@example.com', '', '', 'token', now(), now())"
    )

    def call(prompt: str) -> int:
        body = {"model": "watched", "max_tokens": 1, "messages": [{"role": "user", "content": prompt}]}
        headers = {"authorization": f"Bearer {customer['secret']}"}
        return httpx.post(f"{web.url}/v1/chat/completions", json=body, headers=headers, timeout=20).status_code

    def incidents() -> list[dict[str, Any]]:
        found = httpx.get(f"{web.url}/status.json", timeout=10).json()["incidents"]
        return [one for one in found if one["services"] == [f"openai-compatible-{upstream.port}"]]

    def looking(until: Callable[[], bool]) -> Callable[[], bool]:
        def look() -> bool:
            site.clerk.look()
            return until()

        return look

    assert [call("[[status_500]]") for _ in range(4)] == [502] * 4
    wait_for(looking(lambda: bool(incidents())), timeout_s=30, what="an incident opens", every_s=0.5)
    opened = incidents()[0]
    assert opened["fault"] == "upstream"
    assert "outage" in httpx.get(f"{web.url}/status/badges/provider-{opened['services'][0]}.svg", timeout=10).text
    assert opened["title"] in httpx.get(f"{web.url}/status.rss", timeout=10).text

    assert {call("hello") for _ in range(100)} == {200}
    wait_for(
        looking(lambda: incidents()[0]["status"] == "resolved"), timeout_s=40, what="the incident ends", every_s=0.5
    )
    statuses = [update["status"] for update in incidents()[0]["updates"]]
    assert (statuses[0], statuses[-1]) == ("resolved", "investigating")
    assert site.query("SELECT count(*) AS n FROM status_notice WHERE sent_at IS NOT NULL")[0]["n"] >= 2
