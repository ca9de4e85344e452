"""The questions that reconciliation asks the books, as SQL."""
# ruff: noqa: S608 - built from names of our own

from dataclasses import dataclass

from billing import slices

ROLLUP_KEY = "organization_id, hour, key_id, end_user, model, endpoint"
_TOKENS = (
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "image_input_tokens",
    "image_output_tokens",
)
ROLLED = f"""
    SELECT organization_id, date_trunc('hour', created_at, 'UTC') AS hour, key_id, end_user, model, endpoint,
        count(*) FILTER (WHERE outcome <> 'adjustment') AS requests,
        count(*) FILTER (WHERE outcome NOT IN ('completed', 'client_closed', 'adjustment')) AS errors,
        {", ".join(f"sum({name}) AS {name}" for name in _TOKENS)},
        sum(cost_nanos) AS cost_nanos, coalesce(sum(upstream_cost_nanos), 0) AS upstream_cost_nanos,
        sum(latency_ms) AS latency_ms_sum, coalesce(sum(ttft_ms), 0) AS ttft_ms_sum, count(ttft_ms) AS ttft_count
    FROM billing_usagerecord WHERE settled_at IS NOT NULL
"""
FIGURES = ["requests", "errors", *_TOKENS, "cost_nanos", "upstream_cost_nanos", "latency_ms_sum", "ttft_ms_sum"]
FIGURES.append("ttft_count")
SETTLED = "(SELECT * FROM billing_usagerecord WHERE settled_at IS NOT NULL) settled"


@dataclass(frozen=True, slots=True)
class Check:
    """A question to the books. `sql` gives (subject, expected, actual) of what is wrong; `repair` takes the subject."""

    name: str
    sql: str
    repair: str = ""
    is_of_account: bool = False


_POSTED = "(SELECT coalesce(sum(t.amount), 0) FROM billing_transfer t WHERE t.credit_id = a.id)"
_POSTED += " - (SELECT coalesce(sum(t.amount), 0) FROM billing_transfer t WHERE t.debit_id = a.id)"
_AVAILABLE = "a.posted + a.credit_limit - a.unsettled - a.held"

CHECKS = [
    Check("zero_sum", "SELECT 'all accounts', 0, sum(posted) FROM billing_account HAVING sum(posted) <> 0"),
    Check(
        "posted",
        """WITH moves AS (SELECT credit_id AS id, amount FROM billing_transfer
                          UNION ALL SELECT debit_id, -amount FROM billing_transfer),
                sums AS (SELECT id, sum(amount) AS total FROM moves GROUP BY id)
           SELECT a.id, coalesce(s.total, 0), a.posted FROM billing_account a LEFT JOIN sums s ON s.id = a.id
           WHERE a.posted <> coalesce(s.total, 0)""",
        f"UPDATE billing_account a SET posted = {_POSTED}, version = version + 1 WHERE id = %s",
        is_of_account=True,
    ),
    Check(
        "unsettled",
        """WITH sums AS (SELECT account_id, sum(cost_nanos) AS total FROM billing_usagerecord
                         WHERE settled_at IS NULL GROUP BY 1)
           SELECT a.id, coalesce(s.total, 0), a.unsettled FROM billing_account a LEFT JOIN sums s ON s.account_id = a.id
           WHERE a.unsettled <> coalesce(s.total, 0)""",
        """UPDATE billing_account a SET version = version + 1, unsettled = (
               SELECT coalesce(sum(u.cost_nanos), 0) FROM billing_usagerecord u
               WHERE u.account_id = a.id AND u.settled_at IS NULL) WHERE id = %s""",
        is_of_account=True,
    ),
    Check(
        "held",
        """WITH sums AS (SELECT account_id, sum(amount) AS total FROM billing_hold GROUP BY 1)
           SELECT a.id, coalesce(s.total, 0), a.held FROM billing_account a LEFT JOIN sums s ON s.account_id = a.id
           WHERE a.held <> coalesce(s.total, 0)""",
        """UPDATE billing_account a SET version = version + 1, held = (
               SELECT coalesce(sum(h.amount), 0) FROM billing_hold h WHERE h.account_id = a.id) WHERE id = %s""",
        is_of_account=True,
    ),
    Check(
        "overdrawn_reason",
        f"""SELECT a.id, CASE WHEN {_AVAILABLE} < 0 THEN 'a reason' ELSE 'none' END,
                   coalesce(a.overdrawn_reason, 'none')
            FROM billing_account a
            WHERE a.kind = 'customer' AND ({_AVAILABLE} < 0) <> (a.overdrawn_reason IS NOT NULL)""",
        f"""UPDATE billing_account a SET version = version + 1,
                overdrawn_reason = CASE WHEN {_AVAILABLE} < 0 THEN 'found_by_reconcile' END WHERE id = %s""",
        is_of_account=True,
    ),
    Check(
        "budget_held",
        """WITH sums AS (SELECT i AS id, sum(h.amount) AS cost, sum(h.tokens) AS tokens
                         FROM billing_hold h, unnest(h.budget_ids) i GROUP BY 1)
           SELECT b.id, coalesce(s.cost, 0) || ' n$ ' || coalesce(s.tokens, 0),
                  b.held_cost_nanos || ' n$ ' || b.held_tokens
           FROM billing_budget b LEFT JOIN sums s ON s.id = b.id
           WHERE (b.held_cost_nanos, b.held_tokens) <> (coalesce(s.cost, 0), coalesce(s.tokens, 0))""",
        """UPDATE billing_budget b SET (held_cost_nanos, held_tokens) = (
               SELECT coalesce(sum(h.amount), 0), coalesce(sum(h.tokens), 0) FROM billing_hold h
               WHERE h.organization_id = b.organization_id AND b.id = ANY(h.budget_ids)) WHERE id = %s""",
    ),
    Check(
        "budget_used",
        """SELECT b.id, b.carried_cost_nanos + s.cost || ' n$ ' || b.carried_tokens + s.tokens,
                  b.used_cost_nanos || ' n$ ' || b.used_tokens
           FROM billing_budget b CROSS JOIN LATERAL (
               SELECT coalesce(sum(u.cost_nanos), 0) AS cost,
                      coalesce(sum(u.input_tokens + u.output_tokens), 0) AS tokens
               FROM billing_usagerecord u WHERE u.organization_id = b.organization_id
                 AND u.created_at >= b.period_started_at AND b.id = ANY(u.budget_ids)) s
           WHERE (b.used_cost_nanos, b.used_tokens) <> (b.carried_cost_nanos + s.cost, b.carried_tokens + s.tokens)""",
        """UPDATE billing_budget b SET (used_cost_nanos, used_tokens) = (
               SELECT b.carried_cost_nanos + coalesce(sum(u.cost_nanos), 0),
                      b.carried_tokens + coalesce(sum(u.input_tokens + u.output_tokens), 0)
               FROM billing_usagerecord u WHERE u.organization_id = b.organization_id
                 AND u.created_at >= b.period_started_at AND b.id = ANY(u.budget_ids)) WHERE id = %s""",
    ),
    Check(
        "usage_transfers",
        """WITH sums AS (SELECT transfer_id, account_id, sum(cost_nanos) AS total FROM billing_usagerecord
                         WHERE transfer_id IS NOT NULL GROUP BY 1, 2)
           SELECT coalesce(t.id, s.transfer_id), coalesce(s.total, 0), coalesce(t.amount, 0)
           FROM (SELECT * FROM billing_transfer WHERE kind = 'usage') t
           FULL JOIN sums s ON s.transfer_id = t.id AND s.account_id = t.debit_id
           WHERE coalesce(t.amount, 0) <> coalesce(s.total, 0)""",
    ),
    Check(
        "settled_rows",
        """SELECT request_id, 'a transfer', 'none' FROM billing_usagerecord
           WHERE settled_at IS NOT NULL AND cost_nanos > 0 AND transfer_id IS NULL""",
    ),
    Check(
        "rollups",
        f"""WITH rows AS ({ROLLED} GROUP BY 1, 2, 3, 4, 5, 6)
            SELECT DISTINCT coalesce(r.organization_id, s.organization_id) || ' ' || coalesce(r.hour, s.hour)::text,
                   'its usage records', 'a rollup that differs'
            FROM billing_usagerollup r FULL JOIN rows s
              ON r.organization_id = s.organization_id AND r.hour = s.hour
             AND coalesce(r.key_id, 0) = coalesce(s.key_id, 0)
             AND r.end_user = s.end_user AND r.model = s.model AND r.endpoint = s.endpoint
            WHERE ({", ".join(f"r.{name}" for name in FIGURES)})
                IS DISTINCT FROM ({", ".join(f"s.{name}" for name in FIGURES)})""",
    ),
    Check(
        "slices",
        f"""WITH rows AS ({slices.sliced(SETTLED)})
            SELECT DISTINCT coalesce(s.organization_id, r.organization_id) || ' '
                       || date_trunc('day', coalesce(s.starts_at, r.starts_at), 'UTC')::text,
                   'its usage records', coalesce(s.slice, r.slice) || ' differs'
            FROM billing_usageslice s FULL JOIN rows r
              ON {" AND ".join(f"s.{name} = r.{name}" for name in slices.KEY if name != "key_id")}
             AND coalesce(s.key_id, 0) = coalesce(r.key_id, 0)
            WHERE ({", ".join(f"s.{name}" for name in (*slices.FIGURES, "latency"))})
                IS DISTINCT FROM ({", ".join(f"r.{name}" for name in (*slices.FIGURES, "latency"))})""",
    ),
    Check(
        "orphan_rows",
        """SELECT o.what || ' ' || o.request_id, 'account ' || o.account_id, 'none of its organization' FROM (
               SELECT 'hold' AS what, h.request_id, h.account_id, h.organization_id FROM billing_hold h
               UNION ALL SELECT 'usage record', u.request_id, u.account_id, u.organization_id
               FROM billing_usagerecord u) o
           LEFT JOIN billing_account a ON a.id = o.account_id AND a.organization_id = o.organization_id
           WHERE a.id IS NULL""",
    ),
    Check(
        "dead_workers_holds",
        """SELECT 'holds', 0, count(*) FROM billing_hold h LEFT JOIN billing_worker w ON w.id = h.worker
           WHERE coalesce(w.stopped_at, w.seen_at, h.created_at) < clock_timestamp() - %(overdue)s::interval
           HAVING count(*) > 0""",
    ),
    Check(
        "orders",
        """SELECT o.public_id::text, o.expected, coalesce(sum(CASE WHEN a.kind = 'customer' THEN t.amount
                                                                WHEN a.id IS NOT NULL THEN -t.amount END), 0)
           FROM (SELECT public_id, CASE WHEN status = 'paid'
                     THEN (credits + bonus_credits)::bigint * 10000000 - clawed_nanos ELSE 0 END AS expected
                 FROM billing_order) o
           LEFT JOIN billing_transfer t ON t."group" = o.public_id
           LEFT JOIN billing_account a ON a.id = t.credit_id
           GROUP BY 1, 2 HAVING coalesce(sum(CASE WHEN a.kind = 'customer' THEN t.amount
                                                  WHEN a.id IS NOT NULL THEN -t.amount END), 0) <> o.expected
           UNION ALL
           SELECT t.idempotency_key, t.amount, 0 FROM billing_transfer t
           WHERE t.idempotency_key LIKE 'order:%%'
             AND NOT EXISTS (SELECT FROM billing_order o WHERE o.public_id = t."group")""",
    ),
    Check(
        "lots",
        """WITH inflow AS (
               SELECT t.credit_id AS id, sum(t.amount) AS total FROM billing_transfer t
               WHERE NOT EXISTS (SELECT FROM billing_lot l WHERE l.transfer_id = t.id) GROUP BY 1),
           outflow AS (
               SELECT t.debit_id AS id, sum(t.amount) AS total FROM billing_transfer t
               WHERE NOT EXISTS (SELECT FROM billing_lotuse u WHERE u.transfer_id = t.id) GROUP BY 1),
           rest AS (SELECT account_id AS id, sum(remaining) AS total FROM billing_lot GROUP BY 1),
           debt AS (SELECT account_id AS id, sum(amount) AS total FROM billing_lotuse WHERE lot_id IS NULL GROUP BY 1)
           SELECT a.id, a.posted, f.total FROM billing_account a
           CROSS JOIN LATERAL (
               SELECT coalesce((SELECT total FROM rest r WHERE r.id = a.id), 0)
                    - coalesce((SELECT total FROM debt d WHERE d.id = a.id), 0)
                    + coalesce((SELECT total FROM inflow i WHERE i.id = a.id), 0)
                    - coalesce((SELECT total FROM outflow o WHERE o.id = a.id), 0) AS total) f
           WHERE a.kind = 'customer' AND a.posted <> f.total""",
    ),
    Check(
        "lot_rows",
        """SELECT 'lot ' || l.id, l.amount - coalesce(u.total, 0), l.remaining
           FROM billing_lot l LEFT JOIN (
               SELECT lot_id, sum(amount) AS total FROM billing_lotuse GROUP BY 1) u ON u.lot_id = l.id
           WHERE l.remaining <> l.amount - coalesce(u.total, 0)
           UNION ALL
           SELECT 'lot ' || l.id || ' of transfer ' || t.id, t.amount, l.amount
           FROM billing_lot l JOIN billing_transfer t ON t.id = l.transfer_id
           WHERE (l.amount, l.account_id) <> (t.amount, t.credit_id)
           UNION ALL
           SELECT 'uses by transfer ' || t.id, t.amount, u.total
           FROM (SELECT transfer_id, sum(amount) AS total FROM billing_lotuse GROUP BY 1) u
           JOIN billing_transfer t ON t.id = u.transfer_id WHERE u.total <> t.amount""",
    ),
    Check(
        "clawed_back",
        """SELECT o.public_id::text, c.target, o.clawed_nanos
           FROM billing_order o CROSS JOIN LATERAL (
               SELECT CASE WHEN o.status = 'paid' AND o.paid_cents > 0 THEN div(
                   (o.credits::numeric + o.bonus_credits) * 10000000
                       * least(o.paid_cents, o.refunded_cents::bigint + o.disputed_cents) + o.paid_cents - 1,
                   o.paid_cents) ELSE 0 END AS target) c
           WHERE o.clawed_nanos <> c.target
           UNION ALL
           SELECT o.public_id || ' disputed', coalesce(d.total, 0), o.disputed_cents
           FROM billing_order o LEFT JOIN (
               SELECT order_id, sum(amount_cents) AS total FROM billing_dispute WHERE state <> 2 GROUP BY 1) d
             ON d.order_id = o.id
           WHERE o.disputed_cents <> coalesce(d.total, 0)""",
    ),
    Check(
        "codes",
        """SELECT c.hint, coalesce(t.uses, 0), c.uses FROM billing_redeemcode c LEFT JOIN (
               SELECT split_part(idempotency_key, ':', 2) AS id, count(*) AS uses FROM billing_transfer
               WHERE kind = 'promotion' AND idempotency_key LIKE 'code:%%' GROUP BY 1) t ON t.id = c.id::text
           WHERE c.uses <> coalesce(t.uses, 0)""",
    ),
    Check(
        "dead_letters",
        "SELECT 'unresolved', 0, count(*) FROM billing_deadletter WHERE resolved_at IS NULL HAVING count(*) > 0",
    ),
]
NAMES = [check.name for check in CHECKS]
