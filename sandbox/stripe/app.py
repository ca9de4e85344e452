"""The simulated Stripe as an ASGI application: `/v1` for our server, pages for people, `/__sandbox` for tests."""

import hmac
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from uvicorn import Config, Server

from sandbox.stripe import pages, plans
from sandbox.stripe.bank import Bank, Record, Refused
from sandbox.stripe.webhooks import Courier

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Answer = tuple[int, str, str]

MAX_BODY = 1_000_000
JSON, HTML = "application/json", "text/html; charset=utf-8"
_LISTS = {
    "charges": "charge",
    "refunds": "refund",
    "disputes": "dispute",
    "checkout/sessions": "checkout.session",
    "payment_intents": "payment_intent",
    "payment_methods": "payment_method",
    "invoices": "invoice",
}
_OBJECTS = {"customers": "customer", "subscriptions": "subscription", "checkout/sessions": "checkout.session"}
_FILTERS = ("payment_intent", "customer", "subscription", "status")
_KEY = re.compile(r"\[([^\]]*)\]")


class Stripe:
    """`key` is the secret API key; events go to `endpoint`, signed with `secret`; state is kept at `path`."""

    def __init__(self, *, key: str, secret: str, endpoint: str, base_url: str, path: Path | None = None) -> None:
        self._key = f"Bearer {key}"
        self._base_url = base_url
        self.courier = Courier(endpoint, secret)
        self.bank = Bank(path, self.courier.tell)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = await _body(receive)
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
        path, method = scope["path"], scope["method"]
        query = nested(scope["query_string"].decode())
        location = ""
        try:
            if path.startswith("/v1/"):
                if not hmac.compare_digest(headers.get("authorization", ""), self._key):
                    raise Refused(401, "Invalid API Key provided")
                fields = nested(body.decode()) if method == "POST" else query
                status, kind, text = self._api(method, path[4:], fields, headers.get("idempotency-key", ""))
            elif path == "/health":
                status, kind, text = 200, JSON, '{"status": "ok"}'
            elif path == "/favicon.ico":
                status, kind, text = 200, "image/svg+xml", '<svg xmlns="http://www.w3.org/2000/svg"/>'
            elif path.startswith("/__sandbox/"):
                status, kind, text = self._simulate(path.removeprefix("/__sandbox/"), nested(body.decode()))
            else:
                status, kind, text, location = self._page(method, path, nested(body.decode()), query)
        except Refused as refusal:
            error = {"type": refusal.kind, "message": str(refusal), "code": refusal.code}
            status, kind, text = refusal.status, JSON, json.dumps({"error": error})
        sent = [(b"content-type", kind.encode()), (b"request-id", b"req_sandbox")]
        if location:
            sent.append((b"location", location.encode()))
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": text.encode()})

    def _api(self, method: str, path: str, fields: Record, idempotency_key: str) -> Answer:
        made: Record
        if method == "POST" and path == "customers":
            made = self.bank.once(idempotency_key, lambda: self.bank.customer(fields))
        elif method == "POST" and path == "checkout/sessions":
            made = self.bank.once(idempotency_key, lambda: self.bank.checkout(fields, self._base_url))
        elif method == "POST" and path == "refunds":
            made = self.bank.once(idempotency_key, lambda: self.bank.refund(fields))
        elif method == "POST" and path == "billing_portal/sessions":
            customer = self.bank.get(str(fields.get("customer")), "customer")
            url = f"{self._base_url}/portal/{customer['id']}?return_url={fields.get('return_url', '')}"
            made = {"id": "bps_sandbox", "object": "billing_portal.session", "url": url}
        elif method == "GET" and path in _LISTS:
            filters = {name: fields[name] for name in _FILTERS if name in fields}
            rows = self.bank.listed(_LISTS[path], **filters)
            made = {"object": "list", "data": [self.bank.shown(row) for row in rows], "has_more": False, "url": path}
        elif method == "GET" and path.rpartition("/")[0] in _OBJECTS:
            expand = fields.get("expand", {})
            wanted = tuple(expand.values()) if isinstance(expand, dict) else ()
            folder, _, record_id = path.rpartition("/")
            made = self.bank.shown(self.bank.get(record_id, _OBJECTS[folder]), wanted)
        elif method == "POST" and path == "payment_intents":
            made = self.bank.once(idempotency_key, lambda: self.bank.off_session(fields, self._base_url))
        elif method == "POST" and path.startswith("subscriptions/"):
            made = plans.change(self.bank, self.bank.get(path.rpartition("/")[2], "subscription"), fields)
        else:
            raise Refused(404, f"Unrecognized request URL ({method}: /v1/{path})")
        return 200, JSON, json.dumps(self.bank.shown(made))

    def _page(self, method: str, path: str, fields: Record, query: Record) -> tuple[int, str, str, str]:
        kind, _, record_id = path.strip("/").partition("/")
        if kind == "pay":
            return self._checkout(method, self.bank.get(record_id, "checkout.session"), fields)
        if kind == "receipts":
            html = pages.receipt(self.bank.get(record_id, "charge"))
        elif kind == "invoices":
            html = pages.invoice(self.bank.get(record_id, "invoice"))
        elif kind == "portal":
            if method == "POST":
                self._use_portal(record_id, fields)
            html = self._portal(record_id, str(query.get("return_url", "/")))
        else:
            raise Refused(404, "There is no such page.")
        return 200, HTML, html, ""

    def _checkout(self, method: str, session: Record, fields: Record) -> tuple[int, str, str, str]:
        if session["status"] != "open":
            return 200, HTML, pages.over(session), ""
        if method != "POST":
            return 200, HTML, pages.checkout(session), ""
        action = fields.get("action")
        if action == "pay":
            self.bank.pay(session, str(fields.get("code", "")))
            return 303, HTML, "", session["success_url"].replace("{CHECKOUT_SESSION_ID}", session["id"])
        if action == "cancel":
            return 303, HTML, "", session["cancel_url"]
        return 402, HTML, pages.checkout(session, "Your card was declined. Try another one."), ""

    def _portal(self, customer_id: str, return_url: str) -> str:
        return pages.portal(
            self.bank.get(customer_id, "customer"),
            charges=self.bank.listed("charge", customer=customer_id),
            cards=self.bank.listed("payment_method", customer=customer_id),
            subscriptions=self.bank.listed("subscription", customer=customer_id),
            return_url=return_url,
        )

    def _use_portal(self, customer_id: str, fields: Record) -> None:
        """What a customer does there: add a card that is good or will be declined, or let a month pass."""
        action = fields.get("action")
        if action in {"good_card", "bad_card"}:
            self.bank.save_card(customer_id)["declines"] = action == "bad_card"
            self.bank.keep()
        elif action in {"renew", "renew_declined"}:
            subscription = self.bank.get(str(fields.get("subscription")), "subscription")
            if subscription["customer"] == customer_id and subscription["status"] != "canceled":
                plans.renew(self.bank, subscription, is_declined=action == "renew_declined")

    def _simulate(self, what: str, fields: Record) -> Answer:
        """What banks and time do: `dispute`, `won`, `lost`, `expire`, `renew`; `events` are all that were sent."""
        if what == "events":
            return 200, JSON, json.dumps(self.courier.sent)
        if what == "expire":
            self.bank.expire(self.bank.get(str(fields["session"]), "checkout.session"))
        elif what == "dispute":
            charge = self.bank.listed("charge", payment_intent=fields["payment_intent"])[0]
            made = self.bank.dispute(charge, int(fields["amount"]) if "amount" in fields else None)
            return 200, JSON, json.dumps(made)
        elif what == "renew":
            subscription = self.bank.get(str(fields["subscription"]), "subscription")
            plans.renew(self.bank, subscription, is_declined=bool(fields.get("declined")))
        elif what in {"won", "lost"}:
            self.bank.decide(self.bank.get(str(fields["dispute"]), "dispute"), is_won=what == "won")
        else:
            raise Refused(404, "There is no such simulation.")
        return 200, JSON, "{}"


def nested(encoded: str) -> Record:
    """Form fields as Stripe nests them: `a[b][0]=c` is {"a": {"b": {"0": "c"}}}."""
    fields: Record = {}
    for name, value in parse_qsl(encoded, keep_blank_values=True):
        head, *rest = [name.partition("[")[0], *_KEY.findall(name)]
        into, last = fields, head
        for part in rest:
            into = into.setdefault(last, {})
            last = part or str(len(into))
        into[last] = value
    return fields


def server(stripe: Stripe, port: int, host: str = "127.0.0.1") -> Server:
    """A uvicorn server for `stripe`, not yet running."""
    config = Config(stripe, host, port, ws="none", lifespan="off", log_level="warning")
    config.timeout_graceful_shutdown = 2
    return Server(config)


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY or not message.get("more_body"):
            return body
