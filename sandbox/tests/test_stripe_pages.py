"""The simulated Stripe's pages, as somebody who comes back to them sees them."""

from typing import Any

import pytest

from sandbox.stripe.app import Stripe
from sandbox.stripe.bank import Record

TOLD = {"open": "Pay 19.99 USD", "complete": "it was paid", "expired": "Nothing was charged"}


async def _asked(stripe: Stripe, method: str, path: str) -> tuple[int, str]:
    answer: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"action=pay"}

    async def send(message: dict[str, Any]) -> None:
        answer.append(message)

    await stripe({"type": "http", "method": method, "path": path, "headers": [], "query_string": b""}, receive, send)
    return answer[0]["status"], answer[1]["body"].decode()


@pytest.mark.parametrize("status", list(TOLD))
async def test_a_checkout_that_is_over_asks_for_no_payment(status: str) -> None:
    stripe = Stripe(key="k", secret="s", endpoint="http://127.0.0.1:9/", base_url="http://stripe.test")
    session: Record = stripe.bank.make(
        "cs", "checkout.session", status=status, amount_subtotal=1999, currency="usd", cancel_url="http://shop.test/",
        success_url="http://shop.test/done?session_id={CHECKOUT_SESSION_ID}", sandbox={"description": "Popular pack"},
    )  # fmt: skip
    code, html = await _asked(stripe, "GET", f"/pay/{session['id']}")
    assert (code, TOLD[status] in html) == (200, True)
    if status != "open":
        assert (await _asked(stripe, "POST", f"/pay/{session['id']}"))[1] == html
        assert "<form" not in html
        assert (f"session_id={session['id']}" in html) is (status == "complete")
