"""The proof of the books, as the operator hears of it: a drift freezes accounts and opens an incident."""

import structlog

from billing import ledger, reconciliation, stripe_api, stripe_proof
from billing.models import Account
from status import incidents
from status.models import Incident

log = structlog.get_logger(__name__)

TITLE = "Billing figures are being checked"
BODY = (
    "A check of our own books found a difference. Requests are served; affected accounts are held until it is cleared."
)
DONE = "The books are right again."
FREEZE_REASON = "drift found by reconciliation"


def watch() -> int:
    """Prove the books and compare them with Stripe; returns how many differences there are. May run twice.

    Accounts that a difference froze open again with the proof that all is right.
    """
    found = reconciliation.check()
    for account in reconciliation.drifting_accounts(found):
        ledger.freeze(account=account, reason=FREEZE_REASON)
    try:
        found += stripe_proof.check()
    except stripe_api.StripeUnavailable:
        log.warning("books_not_compared_with_stripe")
    open_one = Incident.objects.filter(title=TITLE, resolved_at=None).first()
    if found and open_one is None:
        incidents.announce(title=TITLE, body=BODY, severity="high", services=[], by=None)
    elif not found and open_one is not None:
        incidents.resolve(incident=open_one, body=DONE)
    if not found:
        for account in Account.objects.filter(frozen_reason=FREEZE_REASON):
            ledger.unfreeze(account=account)
    return len(found)
