"""Price lists, resellers, corrected prices, and providers' own reports; amounts worked out by hand."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import secrets
from accounts.models import ApiKey, AuditEntry, Event, Organization, Role
from accounts.tests.factories import MembershipFactory, OrganizationFactory
from billing import ledger, price_lists, rate_json, rates, rerating, reselling, settlement
from billing import provider_reports as kept_reports
from billing.models import BillingProfile, Price, PriceList, ProviderReport, Rerating, Resale, Transfer, UsageRecord
from billing.money import NANOS_PER_CREDIT
from billing.tests.proofs_kit import drift
from config.tests import pages_kit
from proxy import catalog, key_snapshots, provider_reports, providers
from proxy.models import Deployment, Model, Provider

pytestmark = pytest.mark.django_db
YESTERDAY = timezone.now() - timedelta(days=1)
RATES = {"input": "1", "output": "2", "long_context": {"threshold": 1000, "input": "3", "output": "0.000000001"}}


@pytest.fixture(autouse=True)
def outbox(settings: Any) -> None:
    settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}


def reseller(credits_: int = 1_000) -> Organization:
    parent = OrganizationFactory()
    MembershipFactory(organization=parent, role=Role.OWNER)
    BillingProfile.objects.create(organization=parent, is_reseller=True)
    ledger.grant(organization=parent, amount=credits_ * NANOS_PER_CREDIT, reason="x", idempotency_key=f"g{parent.pk}")
    return parent


def customer(parent: Organization) -> Resale:
    return reselling.adopt(parent=parent, child=OrganizationFactory(), by=None)


def posted(organization: Organization) -> int:
    return ledger.balance_of(organization).posted


def used(key: ApiKey, version: int, at: datetime, **fields: Any) -> UsageRecord:
    record = pages_kit.request_of(key, at, price_version=version, **fields)
    account = ledger.account_of(key.organization)
    type(account).objects.filter(pk=account.pk).update(unsettled=account.unsettled + record.cost_nanos)
    return record


# ---------------------------------------------------------------- price lists


def test_a_markup_scales_every_price_and_no_threshold() -> None:
    assert rate_json.scaled(RATES | {"units": {"image": "0.04"}, "cached_input": "0"}, 1_500) == {
        "input": "1.15",
        "output": "2.3",
        "long_context": {"threshold": 1000, "input": "3.45", "output": "0.000000002"},  # rounded up
        "units": {"image": "0.046"},
        "cached_input": "0",
    }


def test_a_list_follows_the_standard_prices_and_leaves_the_past_alone() -> None:
    rates.set_price(model="m", rates=RATES)
    rates.set_price(model="m-mini", rates={"input": "1"})
    made = price_lists.save(PriceList(slug="partners", name="Partners", markup_bps=1_000, markups={"m-*": 0}))
    own = rates.current_list_rates()["partners"]
    assert (own["m"].base.input, own["m-mini"].base.input) == (1_100_000_000, 1_000_000_000)
    assert price_lists.keep() == 0
    before = Price.objects.get(price_list="partners", model="m")
    made.markup_bps = 2_000
    price_lists.save(made)
    rates.set_price(model="m", rates={"input": "5"})
    coming = timezone.now() + timedelta(days=3)
    rates.set_price(model="m", rates={"input": "7"}, effective_at=coming)
    assert price_lists.keep() == 2
    assert rates.current_list_rates()["partners"]["m"].base.input == 6_000_000_000
    assert rates.current_list_rates(coming)["partners"]["m"].base.input == 8_400_000_000
    before.refresh_from_db()
    assert before.rates["input"] == "1.1"
    assert rates.current_rates()["m"].base.input == 5_000_000_000


@pytest.mark.parametrize("bps", [-10_000, 100_001, 1.5, True, "5"])
def test_a_markup_is_a_whole_number_in_range(bps: Any) -> None:
    with pytest.raises(price_lists.BadMarkup):
        price_lists.save(PriceList(slug="p", name="p", markups={"m": bps}))


@pytest.mark.django_db(transaction=True)
def test_the_gateway_sells_at_the_list_of_the_key_s_organization() -> None:
    rates.set_price(model="m", rates={"input": "1"})
    provider = Provider.objects.create(slug="p", kind="openai", base_url="https://p.test/v1")
    model = Model.objects.create(name="m")
    Deployment.objects.create(model=model, provider=provider, upstream_name="m")
    made = price_lists.save(PriceList(slug="dear", name="Dear", markup_bps=5_000))
    key = pages_kit.key_of(OrganizationFactory())
    price_lists.assign(organization=key.organization, price_list=made, by=None)
    snapshot = key_snapshots.snapshot_of(ApiKey.objects.select_related("organization").get(pk=key.pk))
    assert snapshot.price_list == "dear"
    loaded = catalog.load()
    own, standard = loaded.find("m", snapshot.price_list), loaded.find("m")
    prices = [route.rate for route in (own, standard) if route is not None and route.rate is not None]
    assert [price.base.input for price in prices] == [1_500_000_000, 1_000_000_000]
    assert prices[0].version == Price.objects.get(price_list="dear").pk
    assert loaded.find("m", "unknown") is None
    assert AuditEntry.objects.filter(action="prices.assign").exists()


# ---------------------------------------------------------------- resellers


def test_only_who_may_resell_has_customers_and_nobody_has_two_parents() -> None:
    parent = reseller()
    with pytest.raises(reselling.NoReseller):
        reselling.adopt(parent=OrganizationFactory(), child=OrganizationFactory(), by=None)
    made = customer(parent)
    with pytest.raises(reselling.HasReseller):
        reselling.adopt(parent=reseller(), child=made.child, by=None)
    with pytest.raises(reselling.HasReseller):
        reselling.adopt(parent=parent, child=reseller(), by=None)


def test_an_allowance_fills_up_once_a_month() -> None:
    parent = reseller(1_000)
    made = customer(parent)
    reselling.set_allowance(made, nanos=100 * NANOS_PER_CREDIT, by=None)
    november, december = datetime(2026, 11, 5, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    assert [reselling.pay_allowances(november) for _ in range(3)] == [1, 0, 0]
    assert (posted(made.child), posted(parent)) == (100 * NANOS_PER_CREDIT, 900 * NANOS_PER_CREDIT)
    account = ledger.account_of(made.child)
    ledger.transfer(
        debit=account,
        credit=ledger.house("revenue"),
        amount=30 * NANOS_PER_CREDIT,
        kind="adjustment",
        idempotency_key="u",
    )
    reselling.set_allowance(made, nanos=100 * NANOS_PER_CREDIT, by=None)  # saved again: not filled up again
    assert reselling.pay_allowances(november) == 0
    assert posted(made.child) == 70 * NANOS_PER_CREDIT
    assert reselling.pay_allowances(december) == 1
    assert (posted(made.child), posted(parent)) == (100 * NANOS_PER_CREDIT, 870 * NANOS_PER_CREDIT)
    assert drift() == []


def test_an_allowance_waits_for_the_parent_s_credit() -> None:
    parent = reseller(10)
    made = customer(parent)
    reselling.set_allowance(made, nanos=100 * NANOS_PER_CREDIT, by=None)
    assert reselling.pay_allowances() == 0
    assert Event.objects.get(kind="allowance.failed").organization == parent
    ledger.grant(organization=parent, amount=90 * NANOS_PER_CREDIT, reason="x", idempotency_key="more")
    assert reselling.pay_allowances() == 1
    assert (posted(parent), posted(made.child)) == (0, 100 * NANOS_PER_CREDIT)


def test_the_markup_of_a_day_is_paid_once_when_the_day_is_settled() -> None:
    parent = reseller()
    made = customer(parent)
    Resale.objects.filter(pk=made.pk).update(created_at=YESTERDAY)
    rates.set_price(model="m", rates={"input": "1"})
    own = reselling.price_list_of(parent)
    reselling.set_markup(parent=parent, markup_bps=2_500, markups={}, by=None)
    marked_up = Price.objects.get(price_list=own.slug, markup_bps=2_500)
    standard = Price.objects.get(model="m", price_list="")
    ledger.grant(organization=made.child, amount=10**9, reason="x", idempotency_key="c")
    key = pages_kit.key_of(made.child)
    used(key, marked_up.pk, YESTERDAY, cost_nanos=1_000_003)
    used(key, standard.pk, YESTERDAY, cost_nanos=777)  # by the standard price: nothing on top
    before = posted(parent)
    assert reselling.earn() == 0  # not settled yet
    settlement.settle_all()
    assert [reselling.earn(), reselling.earn()] == [1, 0]
    # 1,000,003 n$ at 125 %: the markup is a fifth, rounded down.
    assert posted(parent) - before == 200_000
    assert reselling.earned(parent, date(2020, 1, 1)) == 200_000
    assert Transfer.objects.get(idempotency_key__startswith="resale:").memo.endswith(made.child.name)
    assert drift() == []


def test_a_request_over_midnight_earns_on_the_day_that_it_ended() -> None:
    parent = reseller()
    made = customer(parent)
    first = datetime(2026, 11, 5, tzinfo=UTC)
    Resale.objects.filter(pk=made.pk).update(created_at=first)
    rates.set_price(model="m", rates={"input": "1"})
    reselling.set_markup(parent=parent, markup_bps=10_000, markups={}, by=None)
    marked_up = Price.objects.get(markup_bps=10_000)
    key = pages_kit.key_of(made.child)
    before = posted(parent)
    assert reselling.earn(date(2026, 11, 6)) == 0  # the day is over, the request is not
    late = {"created_at": first + timedelta(hours=24, minutes=10), "cost_nanos": 1_000}
    used(key, marked_up.pk, first + timedelta(hours=23, minutes=50), **late)
    settlement.settle_all()
    assert [reselling.earn(date(2026, 11, 7)), reselling.earn(date(2026, 11, 8))] == [1, 0]
    assert posted(parent) - before == 500


def test_an_organization_that_ends_is_not_filled_up() -> None:
    parent = reseller()
    made = customer(parent)
    reselling.set_allowance(made, nanos=NANOS_PER_CREDIT, by=None)
    Organization.objects.filter(pk=made.child_id).update(status=Organization.Status.CLOSING)
    assert reselling.pay_allowances() == 0
    assert posted(made.child) == 0


def test_the_pages_of_a_reseller(client: Client) -> None:
    parent = reseller()
    client.force_login(parent.memberships.get().user)
    page = reverse("billing:resale", args=[parent.slug])
    assert "No customers yet" in client.get(page).content.decode()
    made = client.post(page, {"part": "child", "child-name": "Ann's shop"}, follow=True).content.decode()
    child = Resale.objects.get().child
    assert "Ann&#x27;s shop" in made
    client.post(page, {"part": "markup", "markup-percent": "12.5"})
    assert reselling.price_list_of(parent).markup_bps == 1_250
    one = reverse("billing:resale-customer", args=[parent.slug, child.slug])
    client.post(one, {"credits": "40", "pays_our_prices": "on"})
    assert posted(child) == 40 * NANOS_PER_CREDIT
    assert price_lists.slug_of(child) == reselling.price_list_of(parent).slug
    client.post(one, {"credits": "", "pays_our_prices": ""})
    assert (Resale.objects.get().allowance_nanos, price_lists.slug_of(child)) == (None, "")
    assert "40.00" in client.get(page).content.decode()
    BillingProfile.objects.update(is_reseller=False)
    assert client.get(page).status_code == 404


# ---------------------------------------------------------------- corrected prices


def correction(asks_for_more: bool = False) -> Rerating:
    """A price of 2 dollars a million that should have been 1.5. Lists follow both."""
    wrong = rates.set_price(model="m", rates={"input": "2", "output": "2"})
    price_lists.keep()
    right = rates.set_price(model="m", rates={"input": "1.5", "output": "1.5"})
    price_lists.keep()
    now = timezone.now()
    return Rerating.objects.create(
        wrong=wrong,
        right=right,
        starts_at=now - timedelta(days=3),
        ends_at=now,
        reason="A typing error.",
        asks_for_more=asks_for_more,
    )


def test_what_was_too_much_is_given_back_once() -> None:
    rerated = correction()
    organization, other = OrganizationFactory(), OrganizationFactory()
    MembershipFactory(organization=organization, role=Role.OWNER, user__email="payer@example.com")
    key = pages_kit.key_of(organization)
    # 1,200 + 34 tokens at 2 n$ each (2 dollars a million are 2,000 nano-dollars a token): 2,468,000 n$.
    used(key, rerated.wrong_id, YESTERDAY, cost_nanos=2_468_000)
    used(key, rerated.wrong_id, YESTERDAY, cost_nanos=1_234_000)  # reduced to a half by a rule
    used(key, rerated.right_id, YESTERDAY, cost_nanos=99)
    used(key, rerated.wrong_id, YESTERDAY - timedelta(days=9), cost_nanos=2_468_000)  # before the span
    used(pages_kit.key_of(other), rerated.wrong_id, YESTERDAY, cost_nanos=2_468_000)
    settlement.settle_all()
    before = posted(organization)
    rerating.reckon(rerated)
    rerating.reckon(rerated)
    line = rerated.lines.get(organization=organization)
    assert (line.requests, line.charged, line.correct) == (2, 3_702_000, 2_776_500)
    rerated.refresh_from_db()
    assert (rerated.status, rerated.requests, rerated.skipped) == ("ready", 3, 0)
    assert rerating.apply(rerated, by=None) == 2
    assert posted(organization) - before == 925_500
    with pytest.raises(rerating.NotReady):
        rerating.apply(rerated, by=None)
    with pytest.raises(rerating.NotReady):
        rerating.reckon(rerated)
    assert mail.outbox[0].bcc == ["payer@example.com"]
    assert "given back 0.09255 credits" in mail.outbox[0].body
    assert Event.objects.filter(kind="usage.rerated").count() == 2
    assert drift() == []


def test_what_was_corrected_before_is_not_given_back_again() -> None:
    first, again = correction(), correction()
    right = rates.set_price(model=first.wrong.model, rates={"input": "1", "output": "1"})
    later = Rerating.objects.create(
        wrong=first.wrong, right=right, starts_at=first.starts_at, ends_at=first.ends_at, reason="Still wrong."
    )
    Rerating.objects.filter(pk=again.pk).update(wrong=first.wrong, right=first.right)
    again.refresh_from_db()
    organization = OrganizationFactory()
    used(pages_kit.key_of(organization), first.wrong_id, YESTERDAY, cost_nanos=2_468_000)
    settlement.settle_all()
    before = posted(organization)
    for one in (first, again, later):
        rerating.reckon(one)
    assert rerating.apply(first, by=None) == 1
    assert posted(organization) - before == 617_000
    for one in (again, later):
        with pytest.raises(rerating.NotReady):
            rerating.apply(one, by=None)
        rerating.reckon(one)
    assert rerating.apply(again, by=None) == 0
    rerating.reckon(later)
    line = later.lines.get()
    assert (line.charged, line.correct) == (1_851_000, 1_234_000)
    assert rerating.apply(later, by=None) == 1
    assert posted(organization) - before == 1_234_000
    assert drift() == []


def test_prices_that_lists_made_from_a_wrong_one_are_corrected_with_it() -> None:
    price_lists.save(PriceList(slug="partners", name="Partners", markup_bps=1_000))
    rerated = correction()
    wrong = Price.objects.get(derived_from=rerated.wrong)
    organization = OrganizationFactory()
    key = pages_kit.key_of(organization)
    # 1,234 tokens at 2 n$ and a tenth, 2,200 n$: 2,714,800 n$; by the right price at 1,650 n$: 2,036,100 n$.
    used(key, wrong.pk, YESTERDAY, cost_nanos=2_714_800)
    used(key, rerated.wrong_id, YESTERDAY, cost_nanos=2_468_000)  # before it paid by the list
    settlement.settle_all()
    before = posted(organization)
    span = {"starts_at": rerated.starts_at, "ends_at": rerated.ends_at, "reason": "The list's alone."}
    right = Price.objects.get(derived_from=rerated.right)
    of_the_list = Rerating.objects.create(wrong=wrong, right=right, **span)
    for one in (rerated, of_the_list):
        rerating.reckon(one)
    line = rerated.lines.get()
    assert (line.requests, line.charged, line.correct) == (2, 5_182_800, 3_887_100)
    assert rerating.apply(rerated, by=None) == 1
    assert posted(organization) - before == 1_295_700
    with pytest.raises(rerating.NotReady):
        rerating.apply(of_the_list, by=None)  # its requests were corrected meanwhile
    rerating.reckon(of_the_list)
    assert rerating.apply(of_the_list, by=None) == 0
    assert drift() == []


def test_a_correction_that_left_lists_out_is_made_up_for() -> None:
    price_lists.save(PriceList(slug="partners", name="Partners", markup_bps=1_000))
    first = correction()
    organization = OrganizationFactory()
    key = pages_kit.key_of(organization)
    used(key, first.wrong_id, YESTERDAY, cost_nanos=2_468_000)
    settlement.settle_all()
    rerating.reckon(first)
    rerating.apply(first, by=None)
    Rerating.objects.filter(pk=first.pk).update(follows_lists=False)  # as an earlier release did
    used(key, Price.objects.get(derived_from=first.wrong).pk, YESTERDAY, cost_nanos=2_714_800)
    settlement.settle_all()
    fields = {name: getattr(first, name) for name in ("wrong", "right", "starts_at", "ends_at", "reason")}
    again = Rerating.objects.create(**fields)
    rerating.reckon(again)
    line = again.lines.get()
    assert (line.charged, line.correct) == (1_851_000 + 2_714_800, 1_851_000 + 2_036_100)


@pytest.mark.parametrize("asks_for_more", [False, True])
def test_what_was_too_little_is_asked_for_only_if_staff_say_so(asks_for_more: bool) -> None:
    rerated = correction(asks_for_more)
    rerated.wrong, rerated.right = rerated.right, rerated.wrong
    rerated.save()
    organization = OrganizationFactory()
    used(pages_kit.key_of(organization), rerated.wrong_id, YESTERDAY, cost_nanos=1_851_000)
    settlement.settle_all()
    before = posted(organization)
    rerating.reckon(rerated)
    assert rerating.apply(rerated, by=None) == asks_for_more
    assert before - posted(organization) == (617_000 if asks_for_more else 0)


def test_staff_make_look_at_and_apply_a_correction(
    admin_client: Client, django_capture_on_commit_callbacks: Any
) -> None:
    rerated = correction()
    organization = OrganizationFactory()
    used(pages_kit.key_of(organization), rerated.wrong_id, YESTERDAY, cost_nanos=2_468_000)
    settlement.settle_all()
    rerating.reckon(rerated)
    address = reverse("admin:billing_rerating_changelist")
    form = {"action": "apply", "_selected_action": [rerated.pk]}
    asked = admin_client.post(address, form).content.decode()
    assert organization.name in asked
    assert Transfer.objects.filter(group=rerated.public_id).count() == 0
    admin_client.post(address, {**form, "confirmed": "1"})
    assert Transfer.objects.get(group=rerated.public_id).amount == 617_000
    assert admin_client.get(reverse("admin:billing_rerating_change", args=[rerated.pk])).status_code == 200
    assert admin_client.get(reverse("admin:billing_rerating_add")).status_code == 200


# ---------------------------------------------------------------- providers' reports


class CostPages(BaseHTTPRequestHandler):
    """OpenAI's `GET /organization/costs`, in two pages."""

    asked: list[dict[str, list[str]]] = []
    amounts = (["0.0000012345", "1.5"], ["0.25"])

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        type(self).asked.append(query | {"key": [self.headers["authorization"]]})
        number = int(query.get("page", ["0"])[0])
        results = ",".join(f'{{"amount": {{"value": {one}, "currency": "usd"}}}}' for one in self.amounts[number])
        more = json.dumps(number == 0)
        body = f'{{"data": [{{"results": [{results}]}}], "has_more": {more}, "next_page": "1"}}'.encode()
        status = 401 if "wrong" in self.headers["authorization"] else 200
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def reporting() -> Iterator[Provider]:
    server = HTTPServer(("127.0.0.1", 0), CostPages)
    thread = Thread(target=server.serve_forever)
    thread.start()
    CostPages.asked = []
    base_url = f"http://127.0.0.1:{server.server_address[1]}"
    provider = Provider.objects.create(slug="reporting", kind="openai", base_url=base_url, report_project="proj_1")
    providers.set_report_key(provider=provider, key="sk-admin-1")
    yield provider
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_day_s_report_is_read_exactly_and_held_against_our_records(reporting: Provider) -> None:
    day = YESTERDAY.date()
    key = pages_kit.key_of(OrganizationFactory())
    pages_kit.request_of(key, YESTERDAY, provider="reporting", upstream_cost_nanos=1_750_000_000)
    pages_kit.request_of(key, YESTERDAY, provider="other", upstream_cost_nanos=10**12)
    assert provider_reports.fetch(reporting, day) == 1_750_001_235  # half up
    assert CostPages.asked[0]["project_ids"] == ["proj_1"]
    assert CostPages.asked[0]["key"] == ["Bearer sk-admin-1"]
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    assert (CostPages.asked[0]["start_time"], CostPages.asked[0]["end_time"]) == ([str(start)], [str(start + 86_400)])
    assert provider_reports.compare() == 3
    report = ProviderReport.objects.get(day=day)
    assert (report.reported, report.recorded, report.is_within_tolerance) == (1_750_001_235, 1_750_000_000, True)
    older = ProviderReport.objects.get(day=day - timedelta(days=1))
    assert (older.recorded, older.is_within_tolerance) == (0, False)


def test_a_report_that_cannot_be_had_stops_nothing(reporting: Provider) -> None:
    providers.set_report_key(provider=reporting, key="wrong")
    with pytest.raises(provider_reports.ReportFailed, match="HTTP 401"):
        provider_reports.fetch(reporting, YESTERDAY.date())
    assert provider_reports.compare() == 0
    assert secrets.decrypt(reporting.report_key_encrypted) == "wrong"


@pytest.mark.parametrize(
    ("reported", "is_fine"), [(10**9, True), (1_010_101_010, True), (1_020_000_000, False), (0, False)]
)
def test_a_per_cent_is_tolerated(reported: int, is_fine: bool) -> None:
    key = pages_kit.key_of(OrganizationFactory())
    pages_kit.request_of(key, YESTERDAY, provider="p", upstream_cost_nanos=10**9)
    assert kept_reports.note(provider="p", day=YESTERDAY.date(), reported=reported).is_within_tolerance is is_fine
    assert Decimal(ProviderReport.objects.get().recorded) == 10**9
