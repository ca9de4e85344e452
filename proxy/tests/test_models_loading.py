"""`load_prices`: the catalogue, the operator's file, MODEL_PRICING_JSON, and the providers of the environment."""

import json

import pytest
from django.core.management import CommandError, call_command

from accounts import secrets
from billing import rates
from billing.price_models import Price
from billing.pricing import Usage, cost
from proxy import catalog, providers
from proxy.models import Deployment, Model, Provider

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _bare_environment(settings, monkeypatch):
    # It would close the test's own connection, in the middle of its transaction.
    monkeypatch.setattr(catalog, "close_old_connections", lambda: None)
    settings.UPSTREAM_BASE = "https://api.openai.com/v1"
    settings.UPSTREAM_API_KEY = settings.UPSTREAM_API_VERSION = ""
    settings.CLOUDFLARE_ACCOUNT_ID = settings.CLOUDFLARE_API_KEY = settings.MODEL_PRICING_JSON = ""


def test_the_catalogue_is_loaded_once():
    call_command("load_prices", verbosity=0)
    prices, models = Price.objects.count(), Model.objects.count()
    assert prices > 400
    assert models > 200
    call_command("load_prices", verbosity=0)
    assert (Price.objects.count(), Model.objects.count()) == (prices, models)


def test_the_catalogue_has_what_the_contract_names():
    call_command("load_prices", verbosity=0)
    sold = rates.current_rates()
    # 25/50, 50/100 and 5/0 cents for a million tokens, in nano-dollars.
    million = Usage(input=1_000_000), Usage(output=1_000_000)
    assert [cost(usage, sold["gpt-fast"]) for usage in million] == [250_000_000, 500_000_000]
    assert [cost(usage, sold["gpt-full"]) for usage in million] == [500_000_000, 1_000_000_000]
    assert [cost(usage, sold["embed"]) for usage in million] == [50_000_000, 0]
    assert [cost(usage, sold["gpt-4o-mini"]) for usage in million] == [150_000_000, 600_000_000]
    workers_ai = Model.objects.filter(name__startswith="@cf/").listed()
    assert sum(model.name in sold for model in workers_ai) >= 60
    assert {"text", "image", "speech", "transcription", "embedding"} <= set(
        workers_ai.values_list("modality", flat=True)
    )
    assert not Model.objects.listed().exclude(name__in=sold).exists()
    # Nothing is sold below what any provider that we know takes for it.
    paid = rates.current_costs()
    for model in Model.objects.listed():
        for slug, name in model.upstream_names.items():
            for kind in ("input", "output"):
                bought = paid[slug, name].base.of(kind) if (slug, name) in paid else None
                assert bought is None or bought <= sold[model.name].base.of(kind), (model.name, slug)


def test_unpriced_and_disputed_models_are_kept_but_not_offered():
    call_command("load_prices", verbosity=0)
    unpriced = Model.objects.get(name="@cf/google/embeddinggemma-300m")
    assert (unpriced.status, unpriced.is_listed) == ("unpriced", False)
    assert not Price.objects.filter(model=unpriced.name).exists()
    disputed = Model.objects.get(name="@cf/black-forest-labs/flux-2-dev")
    assert (disputed.status, disputed.is_listed) == ("disputed", False)


def test_a_changed_price_is_a_new_row_and_the_past_stays(tmp_path):
    def load(price: str) -> None:
        row = {"name": "m", "rates": {"input": price}, "status": "active"}
        path = tmp_path / "prices.json"
        path.write_text(json.dumps({"provider": "p", "effective_at": "2026-01-01T00:00:00Z", "models": [row]}))
        call_command("load_prices", str(path), verbosity=0)

    load("1")
    old = rates.current_rates()["m"]
    load("2")
    new = rates.current_rates()["m"]
    load("2")
    assert Price.objects.filter(model="m", side="sell").count() == 2
    assert Price.objects.filter(model="m", side="cost", provider="p").count() == 2
    assert (old.base.input, new.base.input) == (1_000_000_000, 2_000_000_000)
    first, second = Price.objects.filter(model="m", side="sell").order_by("effective_at")
    assert first.effective_at.isoformat() == "2026-01-01T00:00:00+00:00"
    assert rates.current_rates(second.effective_at - second.effective_at.resolution)["m"] == old
    assert rates.rate_of(old.version) == old
    assert rates.current_costs()["p", "m"].base.input == 2_000_000_000


def test_what_an_operators_file_says_stays_when_the_catalogue_is_loaded_again(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"provider": "", "models": [{"name": "gpt-fast", "rates": {"input": "9"}}]}))
    call_command("load_prices", verbosity=0)
    call_command("load_prices", str(path), verbosity=0)
    call_command("load_prices", verbosity=0)
    assert rates.current_rates()["gpt-fast"].base.input == 9_000_000_000


def test_the_setting_overrides_prices_and_lets_go_of_them(settings):
    call_command("load_prices", verbosity=0)
    before = rates.current_rates()["gpt-4o"]
    settings.MODEL_PRICING_JSON = '{"gpt-4o": {"input": 0.005, "output": 0.015}, "tiny": {"input": 1e-7}}'
    settings.UPSTREAM_BASE = "http://127.0.0.1:9/v1"
    call_command("load_prices", verbosity=0)
    call_command("load_prices", verbosity=0)
    sold = rates.current_rates()
    # $0.005 and $0.015 for 1,000 tokens.
    assert cost(Usage(input=1_000), sold["gpt-4o"]) == 5_000_000
    assert cost(Usage(cached_input=1_000), sold["gpt-4o"]) == 5_000_000
    assert cost(Usage(output=1_000), sold["gpt-4o"]) == 15_000_000
    assert cost(Usage(input=1_000), sold["tiny"]) == 100
    row = Price.objects.get(pk=sold["gpt-4o"].version)
    assert (row.source, row.origin) == ("MODEL_PRICING_JSON", "environment")
    assert Price.objects.filter(model="gpt-4o", side="sell").count() == 2
    assert Model.objects.get(name="gpt-4o").context_window == 128_000
    assert catalog.load().find("tiny").deployments[0].provider == "upstream"
    settings.MODEL_PRICING_JSON = ""
    call_command("load_prices", verbosity=0)
    assert rates.current_rates()["gpt-4o"].base == before.base


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"m": 5}',
        '{"m": {"input": "x"}}',
        '{"m": {"input": true}}',
        '{"m": {"input": NaN}}',
        '{"m": {"input": -1}}',
        '{"m": {"inptu": 1}}',
        '{"m": {}}',
        '{"m": {"unit": "1 token", "input": 1}}',
        '{"m": {"tiers": {}}}',
    ],
)
def test_a_wrong_setting_is_named_in_one_line(settings, text):
    settings.MODEL_PRICING_JSON = text
    with pytest.raises(CommandError) as refusal:
        call_command("load_prices", verbosity=0)
    assert str(refusal.value).startswith("MODEL_PRICING_JSON: ")
    assert "\n" not in str(refusal.value)
    assert not Price.objects.exists()


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"models": [{}]}', '{"models": [{"name": "m"}]}', '{"models": [], "effective_at": "soon"}']
)
def test_a_wrong_file_is_named_in_one_line(tmp_path, text):
    path = tmp_path / "prices.json"
    path.write_text(text)
    if text.startswith('{"models": []'):
        with pytest.raises(CommandError, match="effective_at"):
            call_command("load_prices", str(path), verbosity=0)
        return
    with pytest.raises(CommandError, match=r"prices\.json"):
        call_command("load_prices", str(path), verbosity=0)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CommandError, match=r"none\.json"):
        call_command("load_prices", str(tmp_path / "none.json"), verbosity=0)


def test_without_settings_nothing_is_deployed():
    call_command("load_prices", verbosity=0)
    assert not Provider.objects.exists()
    assert not Deployment.objects.exists()


def test_openais_key_deploys_openais_models(settings):
    settings.UPSTREAM_API_KEY = "sk-up"
    call_command("load_prices", verbosity=0)
    provider = Provider.objects.get()
    assert (provider.slug, provider.kind, provider.base_url) == ("openai", "openai", "https://api.openai.com/v1")
    assert secrets.decrypt(provider.api_key_encrypted) == "sk-up"
    loaded = catalog.load()
    route = loaded.find("gpt-4o-mini")
    assert route.deployments[0].api_key == "sk-up"
    assert route.deployments[0].cost_rate.base.input == 150_000_000
    assert loaded.find("gpt-4o-mini-2024-07-18") is route
    assert loaded.find("o3-mini") is None  # retired
    assert loaded.find("gpt-image-1") is loaded.find("gpt-image-2")  # retired, but its name stays callable
    assert Model.objects.for_first_request() == "gpt-4o-mini"


def test_another_base_is_a_compatible_server_of_the_operators(settings):
    settings.UPSTREAM_BASE = "http://127.0.0.1:8080/v1"
    providers.sync_from_settings()
    provider = Provider.objects.get()
    assert (provider.slug, provider.kind, provider.has_api_key) == ("upstream", "openai-compatible", False)
    assert provider.allow_private


def test_azure_is_known_by_its_host(settings):
    settings.UPSTREAM_BASE = "https://acme.openai.azure.com/openai/v1"
    settings.UPSTREAM_API_KEY, settings.UPSTREAM_API_VERSION = "k", "2026-10-01"
    (provider,) = providers.sync_from_settings()
    assert (provider.kind, provider.api_version) == ("azure", "2026-10-01")


def test_workers_ai_serves_what_it_can_be_asked_for_and_keeps_the_rest_switched_off(settings):
    settings.CLOUDFLARE_ACCOUNT_ID, settings.CLOUDFLARE_API_KEY = "acc", "cf-token"
    call_command("load_prices", verbosity=0)
    provider = Provider.objects.get()
    assert provider.base_url == "https://api.cloudflare.com/client/v4/accounts/acc/ai/v1"
    on = set(provider.deployments.filter(is_enabled=True).values_list("model__modality", flat=True))
    assert on == {"text", "embedding", "image", "transcription", "speech"}
    off = set(provider.deployments.filter(is_enabled=False).values_list("upstream_name", flat=True))
    assert {"@cf/deepgram/flux", "@cf/runwayml/stable-diffusion-v1-5-img2img"} <= off
    assert provider.deployments.get(model__name="gpt-fast").upstream_name == "@cf/openai/gpt-oss-20b"
    route = catalog.load().find("gpt-fast")
    assert route.deployments[0].cost_rate.base.input == 200_000_000


def test_what_staff_changed_is_left_alone(settings):
    settings.UPSTREAM_API_KEY = "sk-up"
    call_command("load_prices", verbosity=0)
    Model.objects.filter(name="gpt-4o").update(is_listed=False, context_window=5)
    Deployment.objects.filter(model__name="gpt-4o").update(is_enabled=False, weight=7)
    provider = Provider.objects.get()
    providers.set_api_key(provider=provider, api_key="sk-staff")
    Provider.objects.update(name="Ours")
    rates.set_price(model="gpt-4o", rates={"input": "7", "output": "7"})
    settings.UPSTREAM_API_KEY = "sk-next"
    call_command("load_prices", verbosity=0)
    model, deployment = Model.objects.get(name="gpt-4o"), Deployment.objects.get(model__name="gpt-4o")
    assert (model.is_listed, model.context_window) == (False, 5)
    assert (deployment.is_enabled, deployment.weight) == (False, 7)
    provider.refresh_from_db()
    assert (provider.name, secrets.decrypt(provider.api_key_encrypted)) == ("Ours", "sk-staff")
    assert rates.current_rates()["gpt-4o"].base.input == 7_000_000_000


def test_a_changed_key_in_the_environment_is_taken_and_a_removed_one_disables(settings):
    settings.UPSTREAM_API_KEY = "sk-one"
    providers.sync_from_settings()
    token = Provider.objects.get().api_key_encrypted
    providers.sync_from_settings()
    assert Provider.objects.get().api_key_encrypted == token
    settings.UPSTREAM_API_KEY = "sk-two"
    providers.sync_from_settings()
    assert secrets.decrypt(Provider.objects.get().api_key_encrypted) == "sk-two"
    settings.UPSTREAM_API_KEY = ""
    providers.sync_from_settings()
    assert Provider.objects.get().is_enabled is False
    settings.UPSTREAM_API_KEY = "sk-two"
    providers.sync_from_settings()
    assert Provider.objects.get().is_enabled is True


def test_a_key_that_a_lost_secret_key_encrypted_is_replaced(settings):
    settings.UPSTREAM_API_KEY = "sk-one"
    providers.sync_from_settings()
    settings.SECRET_KEY = "another-secret-key-that-is-long-enough-0123"
    providers.sync_from_settings()
    assert secrets.decrypt(Provider.objects.get().api_key_encrypted) == "sk-one"


def test_a_model_that_retires_is_no_longer_offered(tmp_path, settings):
    settings.UPSTREAM_API_KEY = "sk-up"

    def load(status: str) -> None:
        path = tmp_path / "prices.json"
        row = {"name": "old", "rates": {"input": "1"}, "status": status}
        path.write_text(json.dumps({"provider": "openai", "models": [row]}))
        call_command("load_prices", str(path), verbosity=0)

    load("active")
    assert catalog.load().find("old")
    load("retired")
    assert catalog.load().find("old") is None
    assert Model.objects.get(name="old").is_listed is False
