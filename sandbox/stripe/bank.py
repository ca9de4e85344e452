"""What the simulated Stripe remembers: customers, checkouts, payments, charges, refunds, disputes. Kept in one file."""

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox.stripe import plans

Record = dict[str, Any]
Tell = Callable[[str, Record], None]

PROMOTION_CODES = {"TUPPENCE10": 10, "FREE": 100}  # per cent off


class Refused(Exception):
    """Stripe's own refusal: `status`, and `code` and `kind` of its error."""

    def __init__(self, status: int, message: str, code: str = "", kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.kind = kind


class Bank:
    """Every object by id. `tell(type, object)` is called for each event, when its state is kept."""

    def __init__(self, path: Path | None, tell: Tell) -> None:
        self._path = path
        self.tell = tell
        self.records: dict[str, Record] = {}
        self.answers: dict[str, Record] = {}  # by Idempotency-Key
        if path is not None and path.exists():
            kept = json.loads(path.read_text())
            self.records, self.answers = kept["records"], kept["answers"]

    def get(self, record_id: str, kind: str) -> Record:
        found = self.records.get(record_id)
        if found is None or found["object"] != kind:
            raise Refused(404, f"No such {kind}: '{record_id}'", "resource_missing")
        return found

    def listed(self, kind: str, **filters: Any) -> list[Record]:
        """Newest first."""
        rows = [one for one in self.records.values() if one["object"] == kind]
        rows = [one for one in rows if all(one.get(name) == value for name, value in filters.items())]
        return rows[::-1]

    def once(self, key: str, make: Callable[[], Record]) -> Record:
        """The answer of the first request with this Idempotency-Key."""
        if key and key in self.answers:
            return self.answers[key]
        made = make()
        if key:
            self.answers[key] = made
            self.keep()
        return made

    # ------------------------------------------------------------ what our application asks for
    def customer(self, fields: Record) -> Record:
        return self.make(
            "cus",
            "customer",
            email=fields.get("email"),
            name=fields.get("name"),
            metadata=metadata_of(fields),
            invoice_settings={"default_payment_method": None},
        )

    def checkout(self, fields: Record, base_url: str) -> Record:
        self.get(str(fields.get("customer")), "customer")
        lines = list(fields.get("line_items", {}).values())
        if fields.get("mode") not in {"payment", "subscription"} or not lines:
            raise Refused(400, "Only line_items with price_data are simulated.", "parameter_invalid")
        amount = sum(int(line["price_data"]["unit_amount"]) * int(line.get("quantity", 1)) for line in lines)
        made = self.make(
            "cs_test",
            "checkout.session",
            mode=fields["mode"],
            subscription=None,
            status="open",
            payment_status="unpaid",
            customer=fields["customer"],
            client_reference_id=fields.get("client_reference_id"),
            amount_subtotal=amount,
            amount_total=amount,
            currency=lines[0]["price_data"]["currency"],
            payment_intent=None,
            metadata=metadata_of(fields),
            success_url=fields.get("success_url"),
            cancel_url=fields.get("cancel_url"),
            expires_at=int(time.time()) + 86_400,
        )
        made["url"] = f"{base_url}/pay/{made['id']}"
        made["sandbox"] = {
            "description": lines[0]["price_data"]["product_data"]["name"],
            "payment_metadata": metadata_of(fields.get("payment_intent_data", {})),
            "subscription_data": fields.get("subscription_data", {}),
        }
        self.keep()
        return made

    def refund(self, fields: Record) -> Record:
        charge = next(iter(self.listed("charge", payment_intent=fields.get("payment_intent"))), None)
        if charge is None:
            raise Refused(404, "No such payment_intent", "resource_missing")
        left = charge["amount"] - charge["amount_refunded"]
        amount = int(fields.get("amount") or left)
        if not 0 < amount <= left:
            raise Refused(400, "Refund amount is greater than the unrefunded amount", "charge_already_refunded")
        made = self.make(
            "re",
            "refund",
            amount=amount,
            charge=charge["id"],
            payment_intent=charge["payment_intent"],
            currency=charge["currency"],
            status="succeeded",
        )
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]
        self.keep()
        self.tell("charge.refunded", charge)
        self.tell("refund.created", made)
        return made

    # ------------------------------------------------------------ what people and banks do
    def pay(self, session: Record, code: str = "") -> None:
        """The payer pays. Events come in no particular order, as from Stripe."""
        if session["status"] != "open":
            raise Refused(400, "This checkout is over.", "checkout_over")
        if session["mode"] == "subscription":
            plans.begin(self, session, PROMOTION_CODES.get(code.strip().upper(), 0))
            return
        off = PROMOTION_CODES.get(code.strip().upper(), 0)
        session["amount_total"] = session["amount_subtotal"] * (100 - off) // 100
        if not session["amount_total"]:
            session |= {"status": "complete", "payment_status": "no_payment_required"}
            self.keep()
            self.tell("checkout.session.completed", session)
            return
        self.save_card(session["customer"])
        intent, charge = self.charge(
            customer=session["customer"],
            amount=session["amount_total"],
            currency=session["currency"],
            metadata=session["sandbox"]["payment_metadata"],
            base_url=session["url"].rpartition("/pay/")[0],
        )
        session |= {"status": "complete", "payment_status": "paid", "payment_intent": intent["id"]}
        self.keep()
        self.tell("charge.succeeded", charge)
        self.tell("payment_intent.succeeded", intent)
        self.tell("checkout.session.completed", session)

    def off_session(self, fields: Record, base_url: str) -> Record:
        """A payment with a saved card; a card that was told to decline says so, as Stripe does, with 402."""
        card = self.get(str(fields.get("payment_method")), "payment_method")
        if card.get("declines"):
            raise Refused(402, "Your card was declined.", "card_declined", kind="card_error")
        intent, charge = self.charge(
            customer=str(fields["customer"]),
            amount=int(fields["amount"]),
            currency=str(fields["currency"]),
            metadata=metadata_of(fields),
            base_url=base_url,
        )
        self.tell("charge.succeeded", charge)
        self.tell("payment_intent.succeeded", intent)
        return intent

    def charge(
        self, *, customer: str, amount: int, currency: str, metadata: Record, base_url: str
    ) -> tuple[Record, Record]:
        """A payment that succeeded, and its charge."""
        shared = {"amount": amount, "currency": currency, "customer": customer, "metadata": metadata}
        intent = self.make("pi", "payment_intent", amount_received=amount, status="succeeded", **shared)
        charge = self.make(
            "ch",
            "charge",
            amount_refunded=0,
            payment_intent=intent["id"],
            refunded=False,
            disputed=False,
            paid=True,
            status="succeeded",
            **shared,
        )
        charge["receipt_url"] = f"{base_url}/receipts/{charge['id']}"
        intent["latest_charge"] = charge["id"]
        self.keep()
        return intent, charge

    def save_card(self, customer_id: str) -> Record:
        """The card that a customer paid with."""
        known = self.listed("payment_method", customer=customer_id)
        if known:
            return known[0]
        card = {"brand": "visa", "last4": "4242"}
        return self.make("pm", "payment_method", type="card", customer=customer_id, card=card, declines=False)

    def expire(self, session: Record) -> None:
        session["status"] = "expired"
        self.keep()
        self.tell("checkout.session.expired", session)

    def dispute(self, charge: Record, amount: int | None = None) -> Record:
        made = self.make(
            "dp",
            "dispute",
            amount=amount or charge["amount"],
            charge=charge["id"],
            payment_intent=charge["payment_intent"],
            currency=charge["currency"],
            status="needs_response",
            metadata={},
        )
        charge["disputed"] = True
        self.keep()
        self.tell("charge.dispute.created", made)
        return made

    def decide(self, dispute: Record, *, is_won: bool) -> None:
        dispute["status"] = "won" if is_won else "lost"
        self.keep()
        self.tell("charge.dispute.closed", dispute)

    def shown(self, record: Record, expand: tuple[str, ...] = ()) -> Record:
        """A copy as the API answers it, with what was asked to be expanded."""
        told = {name: value for name, value in record.items() if name != "sandbox"}
        for path in expand:
            name, _, rest = path.partition(".")
            inner = self.records.get(str(told.get(name)))
            if inner is not None:
                told[name] = self.shown(inner, (rest,) if rest else ())
        return told

    def make(self, prefix: str, kind: str, **fields: Any) -> Record:
        record_id = f"{prefix}_{secrets.token_hex(12)}"
        record = {"id": record_id, "object": kind, "created": int(time.time()), "livemode": False, **fields}
        self.records[record_id] = record
        self.keep()
        return record

    def keep(self) -> None:
        if self._path is not None:
            draft = self._path.with_suffix(".new")
            draft.write_text(json.dumps({"records": self.records, "answers": self.answers}))
            draft.replace(self._path)


def metadata_of(fields: Record) -> Record:
    metadata = fields.get("metadata")
    return metadata if isinstance(metadata, dict) else {}
