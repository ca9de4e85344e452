"""The mode without credits: organizations' own upstream keys, from the page to the provider."""

from collections.abc import Iterator
from unittest import mock

import httpx
import openai
import pytest
from django.urls import reverse

from accounts import secrets
from accounts.models import AuditEntry
from billing import ledger
from billing.models import Account
from config.tests import books, pages_kit
from config.tests.pages_kit import ANONYMOUS, OUTSIDER, STAFF
from config.tests.processes import Installation, Service
from config.tests.scripted import Upstream
from proxy import providers, upstream_keys
from proxy.models import UpstreamKey

OWN = "sk-own-key-of-the-customer-1234"


@pytest.fixture
def self_hosted(settings):
    settings.IS_SELF_HOSTED = settings.REQUIRE_OWN_OPENAI_KEY = True


@pytest.fixture
def provider(db):
    return providers.create(slug="openai", name="OpenAI", kind="openai", base_url="https://api.openai.com/v1")


@pytest.fixture
def cast(db):
    return pages_kit.cast()


def accepts(status: int = 200):
    answer = httpx.Response(status, request=httpx.Request("GET", "https://api.openai.com/v1/models"))
    return mock.patch.object(httpx, "get", return_value=answer)


@pytest.mark.django_db
def test_who_sees_the_page(self_hosted, provider, cast):
    address = reverse("proxy:upstream-keys", args=[cast.organization.slug])
    for who, (get, post) in {
        ANONYMOUS: (302, 302),
        OUTSIDER: (404, 404),
        STAFF: (404, 404),
        "viewer": (200, 403),
        "billing": (200, 403),
        "developer": (200, 403),
        "admin": (200, 302),
        "owner": (200, 302),
    }.items():
        with accepts():
            client = cast.client(who)
            got = client.get(address).status_code, client.post(address, {"provider": "openai", "key": OWN}).status_code
        assert got == (get, post), who


@pytest.mark.django_db
def test_a_key_is_checked_stored_encrypted_and_never_shown(self_hosted, provider, cast):
    address = reverse("proxy:upstream-keys", args=[cast.organization.slug])
    client = cast.client("admin")
    with accepts(401):
        refused = client.post(address, {"provider": "openai", "key": OWN})
    assert refused.status_code == 422
    assert "refuses this key" in refused.content.decode()
    assert not UpstreamKey.objects.exists()
    with accepts() as asked:
        page = client.post(address, {"provider": "openai", "key": OWN}, follow=True).content.decode()
    assert asked.call_args.kwargs["headers"] == {"authorization": f"Bearer {OWN}"}
    row = UpstreamKey.objects.get()
    assert secrets.decrypt(row.key_encrypted) == OWN
    assert OWN not in row.key_encrypted + page + str(AuditEntry.objects.latest("pk").data)
    assert "…1234" in page
    assert upstream_keys.secrets_of(cast.organization) == {"openai": OWN}
    remove = reverse("proxy:upstream-key-remove", args=[cast.organization.slug, "openai"])
    assert "Remove your key" in client.get(remove).content.decode()
    assert client.post(remove).status_code == 302
    assert not UpstreamKey.objects.exists()
    assert client.get(remove).status_code == 404


@pytest.mark.django_db
def test_accounts_never_run_out_and_do_again_where_credit_is_sold(settings, cast):
    before = ledger.account_of(cast.organization)
    assert before.credit_limit == 0
    settings.IS_SELF_HOSTED = True
    ledger.apply_deployment_mode()
    ledger.apply_deployment_mode()
    assert ledger.balance_of(cast.organization).available == ledger.UNLIMITED
    assert ledger.account_of(pages_kit.cast().organization).credit_limit == ledger.UNLIMITED
    settings.IS_SELF_HOSTED = False
    ledger.apply_deployment_mode()
    assert set(Account.objects.filter(kind="customer").values_list("credit_limit", flat=True)) == {0}


@pytest.mark.django_db
def test_the_console_shows_no_credit(self_hosted, cast):
    page = cast.client("owner").get(reverse("proxy:overview", args=[cast.organization.slug])).content.decode()
    assert "Available" not in page
    assert "Upstream keys" in page


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.mark.processes
@pytest.mark.xdist_group("sandbox")
def test_requests_go_out_with_the_customers_own_key_and_are_recorded(site: Installation, upstream: Upstream) -> None:
    settings = {"DEPLOYMENT_MODE": "self-hosted", "REQUIRE_OWN_OPENAI_KEY": "1"}
    web: Service = site.web(**settings)
    try:
        site.clerk.model(
            name="own", base_url=upstream.base_url, upstream_name="m", prices={"input": 0, "output": 1_000}
        )
        customer = site.clerk.organization(name="own")
        client = openai.OpenAI(base_url=f"{web.url}/v1", api_key=customer["secret"], max_retries=0)

        def call(**headers: str):
            return client.chat.completions.with_raw_response.create(
                model="own", max_tokens=4, messages=[{"role": "user", "content": "hello m-own"}], extra_headers=headers
            )

        with pytest.raises(openai.PermissionDeniedError) as refused:
            call()
        assert refused.value.code == "upstream_key_required"
        assert f"/o/{customer['slug']}/upstream-keys/" in str(refused.value)
        # The clerk, who opened the account, works in the other mode.
        site.query(
            "UPDATE billing_account SET credit_limit = %s WHERE id = %s", ledger.UNLIMITED, customer["account_id"]
        )
        answer = call(**{"x-upstream-key": OWN})
        assert upstream.calls_of("m-own")[-1].headers["authorization"] == f"Bearer {OWN}"
        assert "x-credits-remaining" not in answer.headers
        records = site.query(
            "SELECT cost_nanos, outcome FROM billing_usagerecord WHERE account_id = %s", customer["account_id"]
        )
        assert [(row["cost_nanos"], row["outcome"]) for row in records] == [(4_000, "completed")]
        assert (
            httpx.get(
                f"{web.url}/v1/credits/balance", headers={"authorization": f"Bearer {customer['secret']}"}
            ).status_code
            == 404
        )
        with pytest.raises(openai.BadRequestError) as refused_key:
            client.chat.completions.create(
                model="own",
                messages=[{"role": "user", "content": "[[status_401]] m-own"}],
                extra_headers={"x-upstream-key": OWN},
            )
        assert refused_key.value.code == "upstream_key_rejected"
    finally:
        web.stop()
    assert books.account(site, customer["account_id"]).unsettled == 4_000
