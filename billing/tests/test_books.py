"""The ledger's verbs, what PostgreSQL refuses, and that reconciliation finds every kind of drift."""

import re
from io import StringIO
from uuid import uuid4

import pytest
from django.contrib import admin
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.test import RequestFactory

from accounts import key_format
from accounts.models import Organization
from billing import budgets, ledger, reconciliation, settlement
from billing.models import DeadLetter, Transfer, UsageRecord, UsageRollup
from billing.tests.conftest import new_id


def sql(statement: str, *parameters: object) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, parameters)


# ---------------------------------------------------------------- The ledger


def test_a_transfer_moves_both_balances_once(customer):
    promotions = ledger.house("promotions")
    arguments = {"debit": promotions, "credit": customer.account, "amount": 25, "kind": "grant", "idempotency_key": "a"}
    first = ledger.transfer(**arguments)
    assert ledger.transfer(**arguments) == first
    assert ledger.balance_of(customer.organization) == ledger.Balance(1025, 0, 0)
    promotions.refresh_from_db()
    assert promotions.posted == -25
    with pytest.raises(ledger.IdempotencyMismatch) as mismatch:
        ledger.transfer(**arguments | {"amount": 26})
    assert mismatch.value.existing == first
    for amount in (0, -1, 2**63):
        with pytest.raises(ledger.InvalidTransfer):
            ledger.transfer(**arguments | {"amount": amount, "idempotency_key": "b"})
    with pytest.raises(ledger.InvalidTransfer):
        ledger.transfer(**arguments | {"debit": customer.account, "idempotency_key": "b"})
    assert reconciliation.check() == []


def test_a_clawback_below_zero_is_tagged_and_cleared(customer):
    account, disputes = customer.account, ledger.house("disputes")
    ledger.transfer(debit=account, credit=disputes, amount=1500, kind="dispute", idempotency_key="dp:1:open")
    account.refresh_from_db()
    assert (account.available, account.overdrawn_reason) == (-500, "dispute")
    ledger.transfer(debit=disputes, credit=account, amount=1500, kind="dispute", idempotency_key="dp:1:won")
    account.refresh_from_db()
    assert (account.available, account.overdrawn_reason) == (1000, None)
    assert reconciliation.check() == []


def test_transfers_of_one_statement_move_balances_as_one_by_one(new_customer):
    """And an account that they leave below zero is tagged with the first of them that is no usage."""
    rich, poor, disputes = new_customer(1000), new_customer(100), ledger.house("disputes")
    moves = [
        (rich.account, disputes, 300, "refund"),
        (disputes, rich.account, 50, "adjustment"),
        (poor.account, disputes, 90, "usage"),
        (poor.account, disputes, 40, "dispute"),
        (poor.account, rich.account, 5, "move"),
    ]
    Transfer.objects.bulk_create(
        [
            Transfer(debit=debit, credit=credit, amount=amount, kind=kind, idempotency_key=str(number))
            for number, (debit, credit, amount, kind) in enumerate(moves)
        ]
    )
    disputes.refresh_from_db()
    assert (rich.account.posted, poor.account.posted, disputes.posted) == (755, -35, 380)
    assert (rich.account.overdrawn_reason, poor.account.overdrawn_reason) == (None, "dispute")
    assert {drift.check for drift in reconciliation.check()} == {"usage_transfers"}  # of which there are no records


def test_lowering_the_credit_limit_below_the_debt_is_tagged(customer):
    ledger.set_credit_limit(organization=customer.organization, amount=600)
    ledger.transfer(debit=customer.account, credit=ledger.house("disputes"), amount=1500, kind="dispute",
                    idempotency_key="x")  # fmt: skip
    ledger.set_credit_limit(organization=customer.organization, amount=0)
    assert customer.account.overdrawn_reason == "limit_lowered"
    assert reconciliation.check() == []


def test_an_organization_has_one_account_and_the_house_one_of_each(customer):
    assert ledger.account_of(customer.organization).pk == customer.account_id
    assert ledger.house("revenue") == ledger.house("revenue")
    with pytest.raises(ValueError, match="customer"):
        ledger.house("customer")
    assert ledger.balance_of(Organization.objects.create(name="x", slug="x")).available == 0


# ---------------------------------------------------------------- Append-only


@pytest.fixture
def used(run, teller, customer):
    """A settled and an unsettled usage record."""
    for cost in (5, 7):
        run(teller.capture(customer.capture(new_id(), cost)))
        if cost == 5:
            settlement.settle_all()
    return customer


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE billing_transfer SET amount = amount + 1",
        "UPDATE billing_transfer SET memo = 'other'",
        "DELETE FROM billing_transfer",
        "TRUNCATE billing_transfer CASCADE",
        "UPDATE billing_usagerecord SET cost_nanos = 0",
        "UPDATE billing_usagerecord SET settled_at = NULL WHERE settled_at IS NOT NULL",
        "UPDATE billing_usagerecord SET settled_at = now() WHERE settled_at IS NOT NULL",
        "UPDATE billing_usagerecord SET settled_at = now(), cost_nanos = 0 WHERE settled_at IS NULL",
        "UPDATE billing_usagerecord SET transfer_id = 1 WHERE settled_at IS NULL",
        "UPDATE billing_usagerecord SET usage = '{}' WHERE settled_at IS NULL",
        "UPDATE billing_usagerecord SET settled_at = now(), org_label = 'other' WHERE settled_at IS NULL",
        "DELETE FROM billing_usagerecord",
        "TRUNCATE billing_usagerecord",
        "TRUNCATE billing_usagerecord_default",
        "INSERT INTO billing_transfer (debit_id, credit_id, amount, kind, idempotency_key) VALUES (1, 1, 5, 'x', 'x')",
        "UPDATE billing_account SET held = -1",
        "UPDATE billing_account SET unsettled = -1",
        "INSERT INTO billing_account (kind) VALUES ('customer')",
    ],
)
def test_postgresql_refuses_to_change_the_past(used, statement):
    with pytest.raises(DatabaseError):
        sql(statement)
    assert reconciliation.check() == []


def test_every_column_of_a_usage_record_is_kept_in_every_partition(db):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'billing_refuse_change'")
        guards = [row[0] for row in cursor.fetchall() if "billing_usagerecord" in row[0]]
        cursor.execute("SELECT count(*) FROM pg_partition_tree('billing_usagerecord')")
        assert len(guards) == cursor.fetchone()[0] > 1
    columns = {field.column for field in UsageRecord._meta.fields} - {"settled_at", "transfer_id"}
    for guard in guards:
        assert columns == set(re.findall(r"old\.(\w+) IS DISTINCT FROM new\.\1\b", guard))


def test_truncating_one_month_is_refused(used):
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM billing_usagerecord LIMIT 1")
        (partition,) = cursor.fetchone()
    for verb in ("TRUNCATE", "DELETE FROM"):
        with pytest.raises(DatabaseError):
            sql(f"{verb} {partition}")


def test_an_organization_with_money_cannot_be_deleted(used):
    with pytest.raises(DatabaseError):
        sql("DELETE FROM accounts_organization WHERE id = %s", used.organization.pk)


# ---------------------------------------------------------------- Reconciliation


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE billing_account SET posted = posted + 5 WHERE kind = 'customer'", {"zero_sum", "posted", "lots"}),
        ("UPDATE billing_account SET unsettled = unsettled + 5 WHERE kind = 'customer'", {"unsettled"}),
        ("UPDATE billing_account SET held = held + 5 WHERE kind = 'customer'", {"held"}),
        ("UPDATE billing_account SET overdrawn_reason = 'why' WHERE kind = 'customer'", {"overdrawn_reason"}),
        ("UPDATE billing_budget SET held_cost_nanos = held_cost_nanos + 1", {"budget_held"}),
        ("UPDATE billing_budget SET held_tokens = held_tokens + 1", {"budget_held"}),
        ("UPDATE billing_budget SET used_cost_nanos = used_cost_nanos + 1", {"budget_used"}),
        ("UPDATE billing_budget SET used_tokens = 0", {"budget_used"}),
        ("UPDATE billing_usagerollup SET requests = requests + 1", {"rollups"}),
        ("DELETE FROM billing_usagerollup", {"rollups"}),
        ("INSERT INTO billing_usagerollup (hour, organization_id, end_user, model, endpoint, requests) "
         "VALUES (now(), 7, '', '', '', 3)", {"rollups"}),
    ],
)  # fmt: skip
def test_drift_of_derived_figures_is_found_and_repaired(run, teller, customer, statement, found):
    budgets.set_budget(organization=customer.organization, scope="organization", period="day", cost_cap_nanos=10**6,
                       token_cap=10**6)  # fmt: skip
    for end in (True, False):
        hold = customer.hold(50, tokens=5)
        run(teller.hold(hold))
        if end:
            run(teller.capture(customer.capture(hold, 20, input_tokens=4)))
            settlement.settle_all()
    assert reconciliation.check() == []
    transfers = list(Transfer.objects.order_by("pk").values())
    records = list(UsageRecord.objects.order_by("pk").values())
    sql(statement)
    assert {drift.check for drift in reconciliation.check()} == found
    reconciliation.repair()
    assert reconciliation.check() == []
    assert list(Transfer.objects.order_by("pk").values()) == transfers
    assert list(UsageRecord.objects.order_by("pk").values()) == records
    assert customer.available == 1000 - 20 - 50


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE billing_usagerecord SET settled_at = now() WHERE settled_at IS NULL",
         {"settled_rows", "unsettled", "rollups"}),
        ("UPDATE billing_usagerecord SET settled_at = now(), transfer_id = 1 WHERE settled_at IS NULL",
         {"usage_transfers", "unsettled", "rollups"}),
        ("UPDATE billing_hold SET account_id = 1", {"held", "orphan_rows"}),
        ("UPDATE billing_worker SET seen_at = now() - interval '3 hours'", {"dead_workers_holds"}),
    ],
)  # fmt: skip
def test_drift_of_the_rows_themselves_is_found_and_never_repaired(run, teller, used, statement, found):
    run(teller.hold(used.hold(50)))
    sql(statement)
    assert {drift.check for drift in reconciliation.check()} == found
    reconciliation.repair()
    left = {drift.check for drift in reconciliation.check()}
    assert left == found - {"unsettled", "held", "rollups"}
    assert left


def test_a_transfer_that_bypassed_the_trigger_is_found(used):
    sql("ALTER TABLE billing_transfer DISABLE TRIGGER billing_apply_transfer")
    sql(
        "INSERT INTO billing_transfer (debit_id, credit_id, amount, kind, idempotency_key) "
        "SELECT min(id), max(id), 5, 'grant', 'sneaky' FROM billing_account"
    )
    sql("ALTER TABLE billing_transfer ENABLE TRIGGER billing_apply_transfer")
    assert [drift.check for drift in reconciliation.check()] == ["posted", "posted"]


# ---------------------------------------------------------------- Commands and the admin


def command(name: str, *arguments: str) -> str:
    out = StringIO()
    call_command(name, *arguments, stdout=out)
    return out.getvalue()


def test_create_api_key_makes_the_organization_and_prints_only_the_key(transactional_db):
    printed = command("create_api_key", "--org", "acme", "--name", "first", "--credits", "12.5", "--scopes", "chat")
    assert key_format.is_well_formed(printed.strip())
    assert printed.count("\n") == 1
    organization = Organization.objects.get(slug="acme")
    assert ledger.balance_of(organization).available == 125_000_000
    assert organization.keys.get().scopes == ["chat"]
    command("create_api_key", "--org", "acme", "--name", "second")
    assert organization.keys.count() == 2
    for wrong in (["--credits", "-1"], ["--credits", "x"], ["--scopes", "nonsense"]):
        with pytest.raises(CommandError):
            command("create_api_key", "--org", "beta", "--name", "n", *wrong)
    assert not Organization.objects.filter(slug="beta").exists()
    with pytest.raises(CommandError):
        command("create_api_key", "--org", "no slug", "--name", "n")


def test_grant_credits(customer):
    arguments = ["--org", customer.organization.slug, "--credits", "2", "--reason", "sorry", "--idempotency-key", "k"]
    assert "2.0001 credits" in command("grant_credits", *arguments)
    assert "2.0001 credits" in command("grant_credits", *arguments)
    with pytest.raises(CommandError):
        command("grant_credits", "--org", "nobody", "--credits", "2", "--reason", "sorry")
    with pytest.raises(CommandError):
        command("grant_credits", "--org", customer.organization.slug, "--credits", "0", "--reason", "sorry")


def test_reconcile_prints_a_line_a_check_and_fails_on_drift(used):
    printed = command("reconcile").splitlines()
    assert [line.split()[1] for line in printed[:-1]] == reconciliation.NAMES
    sql("UPDATE billing_account SET held = 5 WHERE id = %s", used.account_id)
    with pytest.raises(CommandError):
        command("reconcile")
    assert "repaired  held" in command("reconcile", "--repair")
    DeadLetter.objects.create(kind="capture", request_id=uuid4(), payload={}, error="")
    with pytest.raises(CommandError):
        command("reconcile", "--repair")


def test_staff_see_what_models_earn(used, admin_client):
    settlement.settle_all()
    page = admin_client.get("/admin/billing/usagerollup/margins/").content.decode()
    assert "Margin per model" in admin_client.get("/admin/billing/usagerollup/").content.decode()
    row = UsageRollup.objects.get()
    assert row.model in page
    assert f"{row.cost_nanos / 10**9:.4f}"[:4] in page
    assert (
        "Nothing was used"
        in admin_client.get("/admin/billing/usagerollup/margins/?start=2001-01-01&end=2001-01-02").content.decode()
    )


MADE_BY_STAFF = {"Price", "Pack", "Plan", "RedeemCode", "PriceList", "BillingProfile", "Rerating"}


def test_the_admin_shows_every_model_and_changes_none(used, admin_client, admin_user):
    settlement.settle_all()
    request = RequestFactory().get("/")
    request.user = admin_user
    for model, site in admin.site._registry.items():
        if model._meta.app_label != "billing" or model.__name__ in MADE_BY_STAFF:
            continue
        assert not any((
            site.has_add_permission(request), site.has_change_permission(request), site.has_delete_permission(request)
        )), model  # fmt: skip
        url = f"/admin/billing/{model._meta.model_name}/"
        assert admin_client.get(url).status_code == 200
        assert admin_client.get(url, {"q": "acme"}).status_code == 200
    assert UsageRollup.objects.count() == 1
