"""The books as a test reads them: by SQL of its own, past the product's code."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from config.tests.processes import Installation, wait_for

# MONEY.md 3.2: what must hold in every snapshot, whatever is being killed meanwhile.
CHECKER = """
select
  (select coalesce(sum(posted), 0) from billing_account) = 0 as zero_sum,
  not exists (
    select 1 from billing_account a
    left join lateral (
      select sum(case when credit_id = a.id then amount else -amount end) as total
      from billing_transfer t where a.id in (t.debit_id, t.credit_id)) t on true
    where a.posted <> coalesce(t.total, 0)) as posted,
  not exists (
    select 1 from billing_account a where unsettled <> coalesce(
      (select sum(cost_nanos) from billing_usagerecord u
       where u.account_id = a.id and u.settled_at is null), 0)) as unsettled,
  not exists (
    select 1 from billing_account a
    where held <> coalesce((select sum(amount) from billing_hold h where h.account_id = a.id), 0)) as held,
  not exists (
    select 1 from billing_account a
    where kind = 'customer' and posted + credit_limit - unsettled - held < 0 and overdrawn_reason is null) as covered
"""


@dataclass(frozen=True)
class Account:
    posted: int
    unsettled: int
    held: int
    credit_limit: int

    @property
    def available(self) -> int:
        return self.posted + self.credit_limit - self.unsettled - self.held


def account(site: Installation, account_id: int) -> Account:
    row = site.query("select posted, unsettled, held, credit_limit from billing_account where id = %s", account_id)[0]
    return Account(**row)


def usage(site: Installation, organization_id: int) -> list[dict[str, Any]]:
    """Every usage record of an organization, in the order of the requests."""
    return site.query(
        "select * from billing_usagerecord where organization_id = %s order by request_id", organization_id
    )


def usage_of(site: Installation, request_id: str) -> list[dict[str, Any]]:
    """The usage records of the request that the client knows as `req_…`: one, or none."""
    return site.query("select * from billing_usagerecord where request_id = %s", uuid_of(request_id))


def uuid_of(request_id: str) -> UUID:
    return UUID(hex=request_id.removeprefix("req_"))


def holds(site: Installation) -> int:
    return int(site.query("select count(*) as n from billing_hold")[0]["n"])


def broken_rules(site: Installation) -> list[str]:
    """The names of the invariants that do not hold in one snapshot."""
    row = site.query(CHECKER)[0]
    return [name for name, holds in row.items() if not holds]


def prove(site: Installation, customer: dict[str, Any], *, credit: int, spent: int) -> None:
    """The customer has `credit - spent`, before and after settlement; nothing is held; `reconcile` finds no drift."""
    wait_for(lambda: holds(site) == 0, timeout_s=10, what="every hold is captured")
    assert account(site, customer["account_id"]).available == credit - spent
    site.clerk.settle()
    after = account(site, customer["account_id"])
    assert (after.posted, after.unsettled, after.held) == (credit - spent, 0, 0)
    assert broken_rules(site) == []
    assert site.clerk.reconcile() == {"drift": []}
