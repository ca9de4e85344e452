"""What the budgets that bind a request have used and have left, read without a lock: for pages and the API."""
# ruff: noqa: S608 - built from texts of our own

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from accounts.models import ApiKey, Organization, User

# A period that is over counts as unused: the next request begins the new one.
_SELECT = """
SELECT b.id, b.scope, coalesce(k.name, m.email, nullif(b.end_user, ''), b.run_id), b.period, b.observes,
    b.follows_default, b.key_id, b.cost_cap_nanos, b.token_cap,
    CASE WHEN p.is_over THEN 0 ELSE b.used_cost_nanos END, CASE WHEN p.is_over THEN 0 ELSE b.used_tokens END,
    b.held_cost_nanos, b.held_tokens,
    billing_period_end(b.period, o.timezone, CASE WHEN p.is_over THEN p.started ELSE b.period_started_at END)
FROM billing_budget b
JOIN accounts_organization o ON o.id = b.organization_id
LEFT JOIN accounts_apikey k ON k.id = b.key_id
LEFT JOIN accounts_user m ON m.id = b.member_id
CROSS JOIN LATERAL (
    SELECT s.started, b.period_started_at < s.started AS is_over
    FROM (SELECT billing_period_start(b.period, o.timezone, clock_timestamp()) AS started) s) p
WHERE b.organization_id = %(organization)s AND """
_ORDER = """
ORDER BY array_position(ARRAY['organization', 'member', 'key', 'end_user', 'run'], b.scope::text), b.period, b.id"""
_OF_REQUEST = f"""{_SELECT} (
    b.scope = 'organization' OR b.key_id = %(key)s
    OR b.member_id = (SELECT created_by_id FROM accounts_apikey WHERE id = %(key)s)
    OR (b.scope = 'end_user' AND b.end_user = %(end_user)s) OR (b.scope = 'run' AND b.run_id = %(run_id)s))
{_ORDER}"""
_OF_KEYS = f"{_SELECT} b.scope = 'key' AND b.key_id = ANY(%(keys)s) {_ORDER}"
_OF_MEMBER = f"{_SELECT} b.scope = 'member' AND b.member_id = %(member)s {_ORDER}"
_OF_END_USERS = f"{_SELECT} b.scope = 'end_user' AND b.end_user = ANY(%(end_users)s) {_ORDER}"


@dataclass(frozen=True, slots=True)
class Cap:
    """One cap of a budget: `unit` is `cost` (nano-dollars) or `tokens`. `subject` names whom it is of."""

    budget_id: int
    scope: str
    subject: str
    period: str
    unit: str
    cap: int
    used: int
    held: int
    resets_at: datetime | None
    observes: bool
    follows_default: bool = False
    key_id: int | None = None

    @property
    def left(self) -> int:
        """What a new request may take of it; never below zero."""
        return max(0, self.cap - self.used - self.held)

    def binds(self, amount: int) -> bool:
        """Whether a request of `amount` would be refused by it."""
        return not self.observes and self.used + self.held + amount > self.cap


def caps_of(
    organization: Organization, *, key: ApiKey | None = None, end_user: str = "", run_id: str = ""
) -> list[Cap]:
    """Every cap that a request of this key, end user and run has to pass. One query."""
    subject = {
        "organization": organization.pk,
        "key": key.pk if key else None,
        "end_user": end_user,
        "run_id": run_id,
    }
    return _read(_OF_REQUEST, subject)


def caps_of_end_users(organization: Organization, end_users: Sequence[str]) -> dict[str, list[Cap]]:
    """The budgets of these end users, by name. One query."""
    caps: dict[str, list[Cap]] = {}
    for cap in _read(_OF_END_USERS, {"organization": organization.pk, "end_users": list(end_users)}):
        caps.setdefault(cap.subject, []).append(cap)
    return caps


def caps_of_keys(organization: Organization, keys: Sequence[ApiKey]) -> dict[int, list[Cap]]:
    """The budgets of these keys alone, by the key's primary key. One query."""
    caps: dict[int, list[Cap]] = {}
    for cap in _read(_OF_KEYS, {"organization": organization.pk, "keys": [key.pk for key in keys]}):
        caps.setdefault(cap.key_id or 0, []).append(cap)
    return caps


def caps_of_member(organization: Organization, member: User) -> list[Cap]:
    """The budgets over all keys that a member made. One query."""
    return _read(_OF_MEMBER, {"organization": organization.pk, "member": member.pk})


def _read(sql: str, values: Mapping[str, Any]) -> list[Cap]:
    caps = []
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        for row in cursor.fetchall():
            budget_id, scope, name, period, observes, follows, key_id, *figures, resets_at = row
            cost_cap, token_cap, used_cost, used_tokens, held_cost, held_tokens = figures
            for unit, cap, used, held in (
                ("cost", cost_cap, used_cost, held_cost),
                ("tokens", token_cap, used_tokens, held_tokens),
            ):
                if cap is not None:
                    seen = (cap, used, held, resets_at, observes, follows, key_id)
                    caps.append(Cap(budget_id, scope, name, period, unit, *seen))
    return caps
