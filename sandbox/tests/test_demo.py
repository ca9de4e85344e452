"""The demo is made once, mended when needed, and steps aside for real providers."""

import json

import pytest

from accounts import keys
from accounts.models import ApiKey, User
from billing import ledger
from proxy import providers
from proxy.models import Deployment, Model
from sandbox import demo

pytestmark = pytest.mark.django_db


@pytest.fixture
def secrets_path(tmp_path):
    path = tmp_path / "secrets.json"
    path.write_text("{}")
    return path


@pytest.fixture(autouse=True)
def catalogue():
    chat, embeddings = ["/v1/chat/completions"], ["/v1/embeddings"]
    Model.objects.create(name="gpt-4o-mini", endpoints=chat)
    Model.objects.create(name="embed", endpoints=embeddings, modality="embedding")
    Model.objects.create(name="sora", endpoints=["/v1/videos"])
    Model.objects.create(name="hidden", endpoints=chat, is_listed=False)


def load(path, **options):
    options = {"password": "a-long-password", "provider_url": "http://127.0.0.1:9/v1", "provider_key": "k", **options}
    demo.load(**options, secrets_path=path)


def served():
    rows = Deployment.objects.filter(provider__slug="sandbox", is_enabled=True)
    return set(rows.values_list("model__name", flat=True))


def test_it_is_made_once(secrets_path):
    load(secrets_path)
    key = json.loads(secrets_path.read_text())["demo_api_key"]
    load(secrets_path)
    user = User.objects.get()
    assert user.check_password("a-long-password")
    assert user.is_staff
    assert user.emailaddress_set.get().verified
    assert ledger.balance_of(user.organizations.get()).posted == 2_500 * 10_000_000
    assert json.loads(secrets_path.read_text())["demo_api_key"] == key
    assert ApiKey.objects.count() == 1
    assert served() == {"gpt-4o-mini", "embed"}


def test_a_revoked_key_is_replaced_and_a_moved_provider_followed(secrets_path):
    load(secrets_path)
    key = json.loads(secrets_path.read_text())["demo_api_key"]
    keys.revoke(key=ApiKey.objects.get(), by=None)
    load(secrets_path, provider_url="http://127.0.0.1:10/v1")
    assert json.loads(secrets_path.read_text())["demo_api_key"] != key
    assert Deployment.objects.first().provider.base_url == "http://127.0.0.1:10/v1"


def test_nobody_pays_for_canned_text_where_a_real_provider_serves(secrets_path):
    load(secrets_path)
    real = providers.create(slug="openai", kind="openai", base_url="https://api.openai.com/v1", api_key="sk-x")
    providers.deploy(model=Model.objects.get(name="gpt-4o-mini"), provider=real)
    load(secrets_path)
    assert served() == {"embed"}
    real.is_enabled = False
    real.save()
    load(secrets_path)
    assert served() == {"gpt-4o-mini", "embed"}
