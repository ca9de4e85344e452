"""What the simulated Stripe remembers: customers, checkouts, payments, charges, refunds, disputes. Kept in one file."""

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Tell = Callable[[str, Record], None]

PROMOTION_CODES = {"TUPPENCE10": 10, "FREE": 100}  # per cent off


class Refused(Exception):
    """Stripe's own refusal: `status` and `code` of its error."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Bank:
    """Every object by id. `tell(type, object)` is called for each event, when its state is kept."""

    def __init__(self, path: Path | None, tell: Tell) -> None:
        self._path = path
        self._tell = tell
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
            self._keep()
        return made

    # ------------------------------------------------------------ what our application asks for
    def customer(self, fields: Record) -> Record:
        return self._make(
            "cus", "customer", email=fields.get("email"), name=fields.get("name"), metadata=_metadata(fields)
        )

    def checkout(self, fields: Record, base_url: str) -> Record:
        self.get(str(fields.get("customer")), "customer")
        lines = list(fields.get("line_items", {}).values())
        if fields.get("mode") != "payment" or not lines:
            raise Refused(400, "Only payments of line_items with price_data are simulated.", "parameter_invalid")
        amount = sum(int(line["price_data"]["unit_amount"]) * int(line.get("quantity", 1)) for line in lines)
        made = self._make(
            "cs_test",
            "checkout.session",
            mode="payment",
            status="open",
            payment_status="unpaid",
            customer=fields["customer"],
            client_reference_id=fields.get("client_reference_id"),
            amount_subtotal=amount,
            amount_total=amount,
            currency=lines[0]["price_data"]["currency"],
            payment_intent=None,
            metadata=_metadata(fields),
            success_url=fields.get("success_url"),
            cancel_url=fields.get("cancel_url"),
            expires_at=int(time.time()) + 86_400,
        )
        made["url"] = f"{base_url}/pay/{made['id']}"
        made["sandbox"] = {
            "description": lines[0]["price_data"]["product_data"]["name"],
            "payment_metadata": _metadata(fields.get("payment_intent_data", {})),
        }
        self._keep()
        return made

    def refund(self, fields: Record) -> Record:
        charge = next(iter(self.listed("charge", payment_intent=fields.get("payment_intent"))), None)
        if charge is None:
            raise Refused(404, "No such payment_intent", "resource_missing")
        left = charge["amount"] - charge["amount_refunded"]
        amount = int(fields.get("amount") or left)
        if not 0 < amount <= left:
            raise Refused(400, "Refund amount is greater than the unrefunded amount", "charge_already_refunded")
        made = self._make(
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
        self._keep()
        self._tell("charge.refunded", charge)
        self._tell("refund.created", made)
        return made

    # ------------------------------------------------------------ what people and banks do
    def pay(self, session: Record, code: str = "") -> None:
        """The payer pays. Events come in no particular order, as from Stripe."""
        if session["status"] != "open":
            raise Refused(400, "This checkout is over.", "checkout_over")
        off = PROMOTION_CODES.get(code.strip().upper(), 0)
        session["amount_total"] = session["amount_subtotal"] * (100 - off) // 100
        if not session["amount_total"]:
            session |= {"status": "complete", "payment_status": "no_payment_required"}
            self._keep()
            self._tell("checkout.session.completed", session)
            return
        metadata = session["sandbox"]["payment_metadata"]
        intent = self._make(
            "pi",
            "payment_intent",
            amount=session["amount_total"],
            amount_received=session["amount_total"],
            currency=session["currency"],
            status="succeeded",
            customer=session["customer"],
            metadata=metadata,
        )
        charge = self._make(
            "ch",
            "charge",
            amount=session["amount_total"],
            amount_refunded=0,
            currency=session["currency"],
            payment_intent=intent["id"],
            customer=session["customer"],
            metadata=metadata,
            refunded=False,
            disputed=False,
            paid=True,
            status="succeeded",
        )
        charge["receipt_url"] = f"{session['url'].rpartition('/pay/')[0]}/receipts/{charge['id']}"
        intent["latest_charge"] = charge["id"]
        session |= {"status": "complete", "payment_status": "paid", "payment_intent": intent["id"]}
        self._keep()
        self._tell("charge.succeeded", charge)
        self._tell("payment_intent.succeeded", intent)
        self._tell("checkout.session.completed", session)

    def expire(self, session: Record) -> None:
        session["status"] = "expired"
        self._keep()
        self._tell("checkout.session.expired", session)

    def dispute(self, charge: Record, amount: int | None = None) -> Record:
        made = self._make(
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
        self._keep()
        self._tell("charge.dispute.created", made)
        return made

    def decide(self, dispute: Record, *, is_won: bool) -> None:
        dispute["status"] = "won" if is_won else "lost"
        self._keep()
        self._tell("charge.dispute.closed", dispute)

    def shown(self, record: Record, expand: tuple[str, ...] = ()) -> Record:
        """A copy as the API answers it, with what was asked to be expanded."""
        told = {name: value for name, value in record.items() if name != "sandbox"}
        for path in expand:
            name, _, rest = path.partition(".")
            inner = self.records.get(str(told.get(name)))
            if inner is not None:
                told[name] = self.shown(inner, (rest,) if rest else ())
        return told

    def _make(self, prefix: str, kind: str, **fields: Any) -> Record:
        record_id = f"{prefix}_{secrets.token_hex(12)}"
        record = {"id": record_id, "object": kind, "created": int(time.time()), "livemode": False, **fields}
        self.records[record_id] = record
        self._keep()
        return record

    def _keep(self) -> None:
        if self._path is not None:
            draft = self._path.with_suffix(".new")
            draft.write_text(json.dumps({"records": self.records, "answers": self.answers}))
            draft.replace(self._path)


def _metadata(fields: Record) -> Record:
    metadata = fields.get("metadata")
    return metadata if isinstance(metadata, dict) else {}
