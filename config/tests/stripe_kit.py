"""The simulated Stripe on a real socket, asked through Stripe's own client; a test delivers its events by hand."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.test import Client
from django.urls import reverse

from billing import stripe_api
from sandbox.processes import free_port
from sandbox.stripe.app import Stripe, server
from sandbox.stripe.webhooks import signature

KEY = "sk_test_0123456789"
SECRET = "whsec_test"


@contextmanager
def running(settings: Any) -> Iterator[Stripe]:
    """A Stripe of one's own, and settings that lead to it."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    stripe = Stripe(key=KEY, secret=SECRET, endpoint="", base_url=base)
    served = server(stripe, port)
    thread = threading.Thread(target=served.run, daemon=True)
    thread.start()
    while not served.started:
        thread.join(0.01)
    settings.STRIPE_SECRET_KEY = KEY
    settings.STRIPE_WEBHOOK_SECRETS = [SECRET]
    settings.STRIPE_API_BASE = base
    try:
        yield stripe
    finally:
        stripe_api.forget_client()
        served.should_exit = True
        thread.join(10)


def deliver(event: dict[str, Any], *, secret: str = SECRET, at: int | None = None) -> int:
    """The status that our webhook answers a signed event with."""
    payload = json.dumps(event).encode()
    answer = Client().post(
        reverse("billing:stripe-webhook"),
        payload,
        content_type="application/json",
        headers={"stripe-signature": signature(payload, secret, at)},
    )
    return answer.status_code


def deliver_all(stripe: Stripe) -> list[str]:
    """Every event since the last call, in Stripe's order; their types."""
    events, stripe.courier.sent = list(stripe.courier.sent), []
    assert [deliver(event) for event in events] == [200] * len(events)
    return [event["type"] for event in events]
