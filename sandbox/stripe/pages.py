"""What people see of the simulated Stripe: the checkout, a receipt, the portal. Plain forms, no script."""

from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 26rem; margin: 0 auto; padding: 2rem 1rem; }
.note { padding: .5rem .75rem; border: 1px dashed; border-radius: .5rem; font-size: .875rem; }
.amount { font-size: 2rem; font-weight: 650; margin: .25rem 0 1rem; }
label { display: block; margin: .75rem 0 .25rem; font-size: .875rem; }
input { box-sizing: border-box; width: 100%; padding: .6rem; font: inherit; border: 1px solid #8888;
  border-radius: .5rem; }
button { width: 100%; margin-top: .75rem; padding: .7rem; font: inherit; font-weight: 600; border: 1px solid #8888;
  border-radius: .5rem; cursor: pointer; }
button.main { background: #635bff; border-color: #635bff; color: #fff; }
li { margin: .25rem 0; }
"""
_NOTE = '<p class="note">A simulation of Stripe: no card is asked for and no money moves.</p>'


def checkout(session: dict[str, Any], problem: str = "") -> str:
    amount = money(session["amount_subtotal"], session["currency"])
    told = f'<p role="alert"><strong>{escape(problem)}</strong></p>' if problem else ""
    return page(
        "Checkout",
        f"""{_NOTE}<h1>{escape(session["sandbox"]["description"])}</h1><p class="amount">{amount}</p>{told}
<form method="post">
  <label for="card">Card number</label><input id="card" value="4242 4242 4242 4242" readonly>
  <label for="code">Promotion code</label><input id="code" name="code" placeholder="TUPPENCE10" autocomplete="off">
  <button class="main" name="action" value="pay">Pay {amount}</button>
  <button name="action" value="decline">Pay with a card that is declined</button>
  <button name="action" value="cancel">Back</button>
</form>""",
    )


def over(session: dict[str, Any]) -> str:
    """What somebody sees who comes back to a checkout: that it is over, and the way on."""
    is_paid = session["status"] == "complete"
    told = "This checkout is over: it was paid." if is_paid else "This checkout has expired. Nothing was charged."
    onward = (
        session["success_url"].replace("{CHECKOUT_SESSION_ID}", session["id"]) if is_paid else session["cancel_url"]
    )
    return page(
        "Checkout",
        f"""{_NOTE}<h1>{escape(session["sandbox"]["description"])}</h1><p role="status">{told}</p>
<p><a href="{escape(onward)}">Go on</a></p>""",
    )


def receipt(charge: dict[str, Any]) -> str:
    paid, refunded = (money(charge[name], charge["currency"]) for name in ("amount", "amount_refunded"))
    return page(
        "Receipt", f"{_NOTE}<h1>Receipt</h1><p>Paid: {paid}</p><p>Refunded: {refunded}</p><p>{charge['id']}</p>"
    )


def invoice(found: dict[str, Any]) -> str:
    paid = money(found["amount_paid"], found["currency"])
    return page("Invoice", f"{_NOTE}<h1>Invoice</h1><p>Paid: {paid}</p><p>{found['id']}</p>")


def portal(
    customer: dict[str, Any],
    *,
    charges: list[dict[str, Any]],
    cards: list[dict[str, Any]],
    subscriptions: list[dict[str, Any]],
    return_url: str,
) -> str:
    rows = "".join(
        f'<li><a href="/receipts/{one["id"]}">{money(one["amount"], one["currency"])}</a></li>' for one in charges
    )
    kept = "".join(
        f"<li>{one['card']['brand']} •••• {one['card']['last4']}{' (will be declined)' if one['declines'] else ''}</li>"
        for one in cards
    )
    months = "".join(
        f"""<li>{one["status"]}{" (ends with its month)" if one["cancel_at_period_end"] else ""}
<form method="post"><input type="hidden" name="subscription" value="{one["id"]}">
<button name="action" value="renew">Let a month pass</button>
<button name="action" value="renew_declined">Let a month pass; the card is declined</button></form></li>"""
        for one in subscriptions
    )
    return page(
        "Customer portal",
        f"""{_NOTE}<h1>{escape(customer.get("name") or "Customer")}</h1>
<h2>Cards</h2><ul>{kept or "<li>None yet</li>"}</ul>
<form method="post"><button class="main" name="action" value="good_card">Add a card</button>
<button name="action" value="bad_card">Add a card that will be declined</button></form>
<h2>Subscriptions</h2><ul>{months or "<li>None</li>"}</ul>
<h2>Payments</h2><ul>{rows or "<li>None yet</li>"}</ul><p><a href="{escape(return_url)}">Back</a></p>""",
    )


def page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>{body}</body></html>'
    )


def money(amount: int, currency: str) -> str:
    return f"{amount // 100}.{amount % 100:02d} {currency.upper()}"
