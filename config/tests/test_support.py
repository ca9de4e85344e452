"""Staff in support cases: looking as a customer, the actions, and the administration's first page."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import exports, impersonation
from accounts.models import ApiKey, AuditEntry, OrganizationExport, User
from billing import ledger
from billing.models import Transfer, UsageRollup
from config.tests import pages_kit
from config.tests.pages_kit import Cast
from proxy import books_watch
from status import incidents

pytestmark = pytest.mark.django_db

PEOPLE = "admin:accounts_user_changelist"
ORGANIZATIONS = "admin:accounts_organization_changelist"


@pytest.fixture
def cast() -> Cast:
    return pages_kit.cast()


@pytest.fixture
def boss(cast: Cast) -> User:
    return pages_kit.person("boss", is_staff=True, is_superuser=True)


@pytest.fixture
def client(boss: User) -> Client:
    client = Client()
    client.force_login(boss, backend="django.contrib.auth.backends.ModelBackend")
    return client


def _act(client: Client, where: str, action: str, selected: int, **form: Any) -> Any:
    return client.post(reverse(where), {"action": action, "_selected_action": selected, **form})


def _look(client: Client, person: User, **form: Any) -> Any:
    return _act(client, PEOPLE, "look_as", person.pk, **({"reason": "ticket 4711"} | form))


def _overview(cast: Cast) -> str:
    return reverse("proxy:overview", args=[cast.organization.slug])


# ---------------------------------------------------------------- Looking as a customer


def test_looking_asks_for_a_reason_shows_the_customers_pages_and_ends(cast: Cast, boss: User, client: Client) -> None:
    owner = cast.users["owner"]
    assert client.get(_overview(cast)).status_code == 404
    asked = _act(client, PEOPLE, "look_as", owner.pk)
    assert "change nothing" in asked.content.decode()
    assert _look(client, owner)["location"] == reverse("proxy:console")
    page = client.get(_overview(cast))
    assert page.status_code == 200
    assert f"you see what <strong>{owner.email}</strong> sees" in page.content.decode()
    assert "no-store" in page["cache-control"]
    ended = client.post(reverse("accounts:impersonation-end"))
    assert ended["location"] == reverse("admin:accounts_user_change", args=[owner.pk])
    assert client.get(_overview(cast)).status_code == 404
    assert client.get(reverse("admin:index")).status_code == 200


def test_the_customer_can_read_of_it_in_the_audit_log(cast: Cast, boss: User, client: Client) -> None:
    _look(client, cast.users["owner"])
    client.post(reverse("accounts:impersonation-end"))
    entries = AuditEntry.objects.filter(organization=cast.organization, action__startswith="impersonation.")
    assert [(entry.action, entry.actor) for entry in entries.order_by("pk")] == [
        ("impersonation.begin", boss),
        ("impersonation.end", boss),
    ]
    assert entries.order_by("pk")[0].data == {"reason": "ticket 4711"}


@pytest.mark.parametrize(
    "path",
    [
        "/accounts/email/", "/accounts/password/change/", "/accounts/2fa/", "/accounts/2fa/recovery-codes/",
        "/accounts/sessions/", "/admin/", "/admin/accounts/user/",
    ],
)  # fmt: skip
def test_the_doors_of_the_person_and_the_administration_are_closed(path: str, cast: Cast, client: Client) -> None:
    _look(client, cast.users["owner"])
    response = client.get(path)
    assert response.status_code == 403
    assert "You are only looking" in response.content.decode()


def test_nothing_can_be_changed_while_looking(cast: Cast, client: Client) -> None:
    key = pages_kit.key_of(cast.organization)
    _look(client, cast.users["owner"])
    slug = cast.organization.slug
    for name, args, form in (
        ("accounts:key-create", [slug], {"name": "x", "token": uuid4()}),
        ("accounts:key-revoke", [slug, key.public_id], {}),
        ("billing:buy", [slug], {"pack": "popular"}),
        ("billing:billing", [slug], {"part": "redeem", "redeem-code": "x"}),
        ("billing:limits", [slug], {"part": "rates", "rates-rpm": "1"}),
        ("account_logout", [], {}),
    ):
        assert client.post(reverse(name, args=args), form).status_code == 403, name
    assert ApiKey.objects.get(pk=key.pk).is_live
    assert cast.organization.keys.count() == 1


@pytest.mark.parametrize("fields", [{"is_staff": True}, {"is_superuser": True}, {"is_active": False}])
def test_nobody_looks_as_staff_or_as_who_cannot_sign_in(fields: dict[str, bool], client: Client) -> None:
    person = pages_kit.person("other", **fields)
    response = _look(client, person)
    assert response.status_code == 302
    assert impersonation.SESSION not in client.session
    assert not AuditEntry.objects.filter(action="impersonation.begin").exists()


def test_who_may_not_change_people_may_not_look_as_them(cast: Cast) -> None:
    response = _look(cast.client("staff"), cast.users["owner"])
    assert response.status_code == 403


def test_nothing_is_taken_along_while_looking(cast: Cast, client: Client) -> None:
    """An export is all that an organization has, and the audit log would say that its owner had taken it."""
    owner = cast.users["owner"]
    made = exports.request(organization=cast.organization, by=owner)
    OrganizationExport.objects.filter(pk=made.pk).update(state=OrganizationExport.State.DONE)
    address = reverse("accounts:export-download", args=[cast.organization.slug, made.public_id])
    _look(client, owner)
    assert client.get(address).status_code == 403
    assert not AuditEntry.objects.filter(action="organization.export_download").exists()


def test_it_ends_by_itself_after_an_hour_and_when_the_staff_member_is_staff_no_more(
    cast: Cast, boss: User, client: Client
) -> None:
    _look(client, cast.users["owner"])
    session = client.session
    state = session[impersonation.SESSION]
    session[impersonation.SESSION] = state | {"ends_at": (timezone.now() - timedelta(seconds=1)).isoformat()}
    session.save()
    assert client.get(_overview(cast)).status_code == 404
    assert impersonation.SESSION not in client.session
    _look(client, cast.users["owner"])
    assert client.get(_overview(cast)).status_code == 200
    boss.is_staff = False
    boss.save(update_fields=["is_staff"])
    assert client.get(_overview(cast)).status_code == 404


def test_a_session_of_somebody_else_with_the_same_words_is_worth_nothing(cast: Cast) -> None:
    client = cast.client("outsider")
    session = client.session
    session[impersonation.SESSION] = {
        "staff": cast.users["staff"].pk, "person": cast.users["owner"].pk,
        "ends_at": (timezone.now() + timedelta(hours=1)).isoformat(),
    }  # fmt: skip
    session.save()
    assert client.get(_overview(cast)).status_code == 404


def test_the_owner_of_an_organization_can_be_looked_as(cast: Cast, client: Client) -> None:
    _act(client, ORGANIZATIONS, "look_as_owner", cast.organization.pk, reason="ticket")
    assert client.get(_overview(cast)).status_code == 200


# ---------------------------------------------------------------- Actions


def test_credit_is_moved_once_per_form_with_its_reason(cast: Cast, client: Client) -> None:
    form = {"credits": "12.5", "reason": "goodwill", "token": uuid4()}
    assert "mistake" in _act(client, ORGANIZATIONS, "move_credit", cast.organization.pk).content.decode()
    for _ in range(2):
        _act(client, ORGANIZATIONS, "move_credit", cast.organization.pk, **form)
    moved = Transfer.objects.get(credit=ledger.account_of(cast.organization))
    assert (moved.amount, moved.memo) == (125_000_000, "goodwill")
    too_much = {"credits": "-13", "reason": "back", "token": uuid4()}
    _act(client, ORGANIZATIONS, "move_credit", cast.organization.pk, **too_much)
    assert ledger.balance_of(cast.organization).available == 125_000_000


def test_every_key_is_revoked_after_asking(cast: Cast, client: Client) -> None:
    keys = [pages_kit.key_of(cast.organization, name) for name in "ab"]
    asked = _act(client, ORGANIZATIONS, "revoke_keys", cast.organization.pk)
    assert "2 keys" in asked.content.decode()
    assert all(ApiKey.objects.get(pk=key.pk).is_live for key in keys)
    _act(client, ORGANIZATIONS, "revoke_keys", cast.organization.pk, reason="leaked")
    assert not any(ApiKey.objects.get(pk=key.pk).is_live for key in keys)
    assert AuditEntry.objects.get(action="keys.revoke_all").data == {"reason": "leaked"}


def test_a_person_is_signed_out_switched_off_and_on_and_sent_a_link(cast: Cast, boss: User, client: Client) -> None:
    cache.clear()  # others may have signed in from this address just now
    owner = cast.users["owner"]
    owner.set_password("copper-pine-42")
    owner.save()
    theirs = Client()
    theirs.post(reverse("account_login"), {"login": owner.email, "password": "copper-pine-42"})
    assert theirs.get(_overview(cast)).status_code == 200
    _act(client, PEOPLE, "sign_out", owner.pk)
    assert theirs.get(_overview(cast)).status_code == 302
    _act(client, PEOPLE, "send_reset", owner.pk)
    assert [message.to for message in mail.outbox] == [[owner.email]]
    _act(client, PEOPLE, "switch_off", owner.pk)
    assert not User.objects.get(pk=owner.pk).is_active
    _act(client, PEOPLE, "switch_on", owner.pk)
    assert User.objects.get(pk=owner.pk).is_active
    _act(client, PEOPLE, "switch_off", boss.pk)
    assert User.objects.get(pk=boss.pk).is_active
    assert set(AuditEntry.objects.filter(target_id=owner.public_id).values_list("action", flat=True)) == {
        "user.sign_out", "user.send_reset", "user.switch_off", "user.switch_on",
    }  # fmt: skip


# ---------------------------------------------------------------- The first page


def _rollup(cast: Cast, hours_ago: int, **figures: int) -> None:
    hour = (timezone.now() - timedelta(hours=hours_ago)).replace(minute=0, second=0, microsecond=0)
    UsageRollup.objects.create(
        hour=hour, organization=cast.organization, key=None, end_user="", model=f"m{hours_ago}", endpoint="/", **figures
    )


def test_the_first_page_says_how_it_stands_in_few_queries(
    cast: Cast, client: Client, django_assert_max_num_queries: Any
) -> None:
    cache.clear()
    _rollup(cast, 2, requests=10, errors=1, cost_nanos=3_000_000_000, upstream_cost_nanos=1_000_000_000)
    _rollup(cast, 48, requests=90, errors=0, cost_nanos=1_000_000_000, upstream_cost_nanos=1_000_000_000)
    _rollup(cast, 24 * 40, requests=1, errors=1, cost_nanos=9_000_000_000, upstream_cost_nanos=0)
    with django_assert_max_num_queries(16):
        page = client.get(reverse("admin:index")).content.decode()
    assert "$4.00<small>$3.00 in 24 hours" in page
    assert "$2.00<small>50 % of what was charged" in page
    assert "10.0 %<small>1 of 10 requests" in page
    assert "<dd>Agree" in page


def test_a_drift_is_the_first_thing_said(client: Client) -> None:
    cache.clear()
    incidents.announce(title=books_watch.TITLE, body="x", severity="high", services=[], by=None)
    page = client.get(reverse("admin:index")).content.decode()
    assert "The books do not agree" in page
    cache.clear()


def test_staff_who_may_not_read_the_books_see_no_figures(cast: Cast) -> None:
    cache.clear()
    page = cast.client("staff").get(reverse("admin:index"))
    assert page.status_code == 200
    assert "Revenue" not in page.content.decode()
