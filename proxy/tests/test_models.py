"""Constraints, verbs, what the gateways are told, and the admin."""

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.urls import reverse

from accounts import secrets
from proxy import providers
from proxy.models import Alias, Deployment, Model, Provider

pytestmark = pytest.mark.django_db


@pytest.fixture
def provider() -> Provider:
    return providers.create(slug="up", kind="openai-compatible", base_url="http://10.0.0.1:8080/v1/", api_key="sk-up")


@pytest.fixture
def model() -> Model:
    return Model.objects.create(name="m", snapshots=["m-2026-01-01"])


def test_a_provider_keeps_its_key_encrypted(provider):
    assert provider.base_url == "http://10.0.0.1:8080/v1"
    assert "sk-up" not in provider.api_key_encrypted
    assert secrets.decrypt(Provider.objects.get().api_key_encrypted) == "sk-up"
    assert str(provider) == "up"
    providers.set_api_key(provider=provider, api_key="")
    assert not Provider.objects.get().has_api_key


@pytest.mark.parametrize("wrong", [{"kind": "other"}, {"base_url": "ftp://x/v1"}, {"base_url": "x"}, {"slug": "a b"}])
def test_a_wrong_provider_is_refused(wrong):
    fields = {"slug": "p", "kind": "openai", "base_url": "https://api.openai.com/v1", **wrong}
    with pytest.raises(ValidationError):
        providers.create(**fields)


def test_postgresql_refuses_what_makes_no_sense(provider, model):
    deployment = {"model": model, "provider": provider, "upstream_name": "x"}
    Deployment.objects.create(**deployment)
    for wrong in (
        lambda: Deployment.objects.create(**deployment),
        lambda: Deployment.objects.create(**{**deployment, "upstream_name": "y"}, weight=0),
        lambda: Deployment.objects.create(**{**deployment, "upstream_name": "y"}, timeout_s=0),
        lambda: Deployment.objects.create(**{**deployment, "upstream_name": "y"}, max_concurrency=0),
        lambda: Model.objects.create(name="m"),
        lambda: Model.objects.create(name=""),
        lambda: Model.objects.create(name="n", status="gone"),
        lambda: Provider.objects.create(slug="up", kind="openai", base_url="https://x"),
        lambda: Provider.objects.create(slug="q", kind="else", base_url="https://x"),
        lambda: Provider.objects.create(slug="q", kind="openai", base_url="file:///etc"),
        lambda: Alias.objects.create(name="", model=model),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            wrong()


def test_a_deployment_is_made_once(provider, model):
    one = providers.deploy(model=model, provider=provider, priority=3)
    assert (one.upstream_name, one.priority) == ("m", 3)
    assert providers.deploy(model=model, provider=provider) == one
    assert providers.serve(provider=provider, models=Model.objects.all()) == 0
    Model.objects.create(name="n")
    assert providers.serve(provider=provider, models=Model.objects.all(), priority=9) == 1


def test_public_names_are_unique_over_models_snapshots_and_aliases(model):
    other = Model.objects.create(name="n")
    alias = providers.add_alias(name="latest", model=model)
    assert providers.add_alias(name="latest", model=model) == alias
    for taken in ("latest", "m", "m-2026-01-01"):
        with pytest.raises(providers.NameTaken):
            providers.add_alias(name=taken, model=other)


def test_served_models_have_a_live_deployment(provider, model):
    assert not Model.objects.served().exists()
    assert Model.objects.for_first_request() == "gpt-4o-mini"
    providers.deploy(model=model, provider=provider)
    assert Model.objects.served().get() == model
    assert Model.objects.for_first_request() == "m"
    providers.set_enabled(rows=Provider.objects.all(), is_enabled=False)
    assert not Model.objects.served().exists()


@pytest.mark.parametrize("table", ["provider", "model", "alias", "deployment"])
def test_every_table_of_the_catalogue_tells_the_gateways(table):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = %s", [f"proxy_{table}_notify"])
        (definition,) = cursor.fetchone()
    assert "INSERT OR DELETE OR UPDATE OR TRUNCATE" in definition
    assert "FOR EACH STATEMENT" in definition


@pytest.mark.parametrize("name", ["provider", "model", "deployment", "alias"])
def test_staff_see_every_table(admin_client, provider, model, name):
    providers.deploy(model=model, provider=provider)
    providers.add_alias(name="latest", model=model)
    assert admin_client.get(reverse(f"admin:proxy_{name}_changelist"), {"q": "m"}).status_code == 200
    row = {"provider": provider, "model": model, "deployment": model.deployments.get(), "alias": model.aliases.get()}
    page = admin_client.get(reverse(f"admin:proxy_{name}_change", args=[row[name].pk]))
    assert page.status_code == 200
    assert "sk-up" not in page.content.decode()
    assert provider.api_key_encrypted not in page.content.decode()


def _form(provider: Provider, **fields: str) -> dict[str, str]:
    names = ("slug", "name", "kind", "base_url", "api_version")
    return {name: getattr(provider, name) for name in names} | {"is_enabled": "on"} | fields


def test_the_admin_keeps_replaces_and_forgets_a_key(admin_client, provider):
    url = reverse("admin:proxy_provider_change", args=[provider.pk])
    token = provider.api_key_encrypted
    assert admin_client.post(url, _form(provider, name="Renamed")).status_code == 302
    provider.refresh_from_db()
    assert (provider.name, provider.api_key_encrypted) == ("Renamed", token)
    admin_client.post(url, _form(provider, api_key="sk-new"))
    provider.refresh_from_db()
    assert secrets.decrypt(provider.api_key_encrypted) == "sk-new"
    both = admin_client.post(url, _form(provider, api_key="sk-x", forget_api_key="on"))
    assert both.status_code == 200
    admin_client.post(url, _form(provider, forget_api_key="on"))
    provider.refresh_from_db()
    assert not provider.has_api_key


def test_the_admin_disables_and_enables(admin_client, provider, model):
    deployment = providers.deploy(model=model, provider=provider)
    for action, is_enabled in (("disable", False), ("enable", True)):
        admin_client.post(
            reverse("admin:proxy_deployment_changelist"), {"action": action, "_selected_action": [deployment.pk]}
        )
        deployment.refresh_from_db()
        assert deployment.is_enabled is is_enabled
    for action, is_listed in (("unlist_models", False), ("list_models", True)):
        admin_client.post(reverse("admin:proxy_model_changelist"), {"action": action, "_selected_action": [model.pk]})
        model.refresh_from_db()
        assert model.is_listed is is_listed


def test_the_admin_deploys_what_the_catalogue_knows(admin_client, provider):
    Model.objects.create(name="known", upstream_names={"up": "vendor/known"})
    admin_client.post(
        reverse("admin:proxy_provider_changelist"), {"action": "deploy_known", "_selected_action": [provider.pk]}
    )
    assert provider.deployments.get().upstream_name == "vendor/known"
