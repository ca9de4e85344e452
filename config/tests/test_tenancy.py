"""Row-level security: the tenant role sees the rows of one organization, and without one none."""

import pytest
from django.db import ProgrammingError, connection, transaction

from accounts import events, tenancy
from accounts.models import ApiKey, AuditEntry, Event, Membership, Organization, User
from billing import ledger
from billing.models import Account, UsageRecord
from config.tests import pages_kit

pytestmark = pytest.mark.django_db

TABLES = [Organization, Membership, ApiKey, AuditEntry, Event, UsageRecord, Account]


@pytest.fixture
def two(settings) -> tuple[Organization, Organization]:
    settings.TENANT_ROLE = True
    tenancy.create_role()
    made = []
    for _ in range(2):
        organization = pages_kit.cast().organization
        ledger.account_of(organization)
        pages_kit.request_of(pages_kit.key_of(organization))
        made.append(organization)
    return made[0], made[1]


def test_every_table_of_an_organization_has_the_policy() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
            "WHERE a.attname = 'organization_id' AND c.relkind IN ('r', 'p') AND NOT c.relispartition "
            "AND c.relnamespace = current_schema()::regnamespace AND NOT c.relrowsecurity"
        )
        assert cursor.fetchall() == []


@pytest.mark.parametrize("model", TABLES)
def test_without_an_organization_no_row_is_seen(two, model) -> None:
    assert model.objects.count() >= 2
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL ROLE {tenancy.ROLE}")
        assert model.objects.count() == 0
        cursor.execute("RESET ROLE")


@pytest.mark.parametrize("model", TABLES)
def test_with_one_only_its_rows_are(two, model) -> None:
    one, other = two
    with tenancy.within(one):
        key = "pk" if model is Organization else "organization"
        seen = set(model.objects.values_list(key, flat=True))
    assert seen == {one.pk}
    assert model.objects.filter(**{key: other.pk}).exists()


def test_the_role_reads_tenant_tables_and_nothing_else(two) -> None:
    for statement in (
        "SELECT * FROM accounts_user",
        "SELECT * FROM django_session",
        "SELECT * FROM billing_transfer",
        "DELETE FROM accounts_event",
        "UPDATE accounts_organization SET name = 'x'",
        "INSERT INTO accounts_membership (organization_id, user_id, role) VALUES (1, 1, 'owner')",
    ):
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic(), tenancy.within(two[0]):
            connection.cursor().execute(statement)
    assert User.objects.exists()


def test_the_application_is_not_bound(two) -> None:
    assert Organization.objects.filter(pk__in=[each.pk for each in two]).count() == 2
    with tenancy.within(two[0]):
        pass
    assert Organization.objects.filter(pk__in=[each.pk for each in two]).count() == 2


def test_the_feed_is_read_as_the_organization(two) -> None:
    with tenancy.within(two[0]):
        kinds = {event.organization_id for event in events.since(events.Cursor(), limit=100)}
    assert kinds <= {two[0].pk}
