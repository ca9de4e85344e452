"""Organizations' own names for models, and the fallback."""

from dataclasses import replace

import orjson
import pytest
from django.urls import reverse

from billing.pricing import Prices, Rate
from config.tests import pages_kit
from proxy import own_models, providers
from proxy.key_snapshots import snapshot_of
from proxy.models import Model
from proxy.tests.kit import DEPLOYMENT, KEY, ROUTE, Kit, Script

ANSWER = {
    "id": "1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}
WHOLE, FAILS = Script([orjson.dumps(ANSWER)]), Script([b"{}"], status=500)
DEAR = replace(
    ROUTE,
    model="dear",
    rate=Rate("dear", 12, Prices(input=10_000_000_000, output=20_000_000_000)),
    deployments=(replace(DEPLOYMENT, id=9, provider="other", upstream_name="dear-real"),),
)
BODY = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}


def kit(*scripts: Script, **fields) -> Kit:
    return Kit(*scripts, key=replace(KEY, **fields), routes=(ROUTE, DEAR))


async def test_an_organizations_own_name_leads_to_its_model():
    one = kit(WHOLE, aliases={"best": "dear", "m": "dear"})
    for name in ("best", "m"):
        assert (await one.call(body=BODY | {"model": name})).status == 200
        assert one.teller.captures[-1].model == "dear"
    assert (await one.call(body=BODY | {"model": "dear"})).status == 200


async def test_an_allow_list_holds_for_what_a_name_stands_for():
    one = kit(WHOLE, aliases={"best": "dear"}, allowed_models=frozenset({"m"}))
    assert (await one.call(body=BODY | {"model": "best"})).status == 403


@pytest.mark.parametrize("fails", [FAILS, Script([b"{}"], status=429)])
async def test_the_fallback_serves_what_the_model_does_not_at_its_own_price(fails):
    one = kit(fails, WHOLE, fallback_model="dear")
    answer = await one.call(body=BODY)
    assert (answer.status, answer.headers["x-fallback-from"], answer.headers["x-upstream"]) == (
        200,
        "m",
        "other/dear-real",
    )
    first, second = one.teller.captures
    assert (first.model, first.cost, second.model, second.cost) == ("m", 0, "dear", 200_000)
    assert answer.headers["x-request-id"] == f"req_{second.request_id.hex}"
    assert one.teller.holds == {}
    assert one.client.requests[1][2]["model"] == "dear-real"


@pytest.mark.parametrize(
    ("scripts", "fields", "status"),
    [
        ((FAILS, WHOLE), {}, 502),
        ((FAILS, FAILS), {"fallback_model": "dear"}, 502),
        ((FAILS, WHOLE), {"fallback_model": "m"}, 502),
        ((FAILS, WHOLE), {"fallback_model": "gone"}, 502),
        ((FAILS, WHOLE), {"fallback_model": "dear", "allowed_models": frozenset({"m"})}, 502),
        ((Script([b'{"error":{"message":"no"}}'], status=400), WHOLE), {"fallback_model": "dear"}, 400),
    ],
)
async def test_what_is_no_case_for_the_fallback(scripts, fields, status):
    assert (await kit(*scripts, **fields).call(body=BODY)).status == status


@pytest.mark.django_db
def test_the_page_names_models_and_sets_the_fallback():
    cast = pages_kit.cast()
    provider = providers.create(slug="p", kind="openai", base_url="https://api.openai.com/v1", api_key="sk-xxxxxxxx")
    providers.deploy(model=Model.objects.create(name="gpt-one"), provider=provider)
    address = reverse("proxy:models", args=[cast.organization.slug])
    client = cast.client("admin")
    assert client.post(address, {"part": "alias", "name": "best", "model": "gpt-one"}).status_code == 302
    assert client.post(address, {"part": "fallback", "fallback-model": "gpt-one"}).status_code == 302
    page = client.get(address).content.decode()
    assert "best" in page
    assert 'value="gpt-one" selected' in page
    key = snapshot_of(pages_kit.key_of(pages_kit.Organization.objects.get(pk=cast.organization.pk)))
    assert (dict(key.aliases), key.fallback_model) == ({"best": "gpt-one"}, "gpt-one")
    assert client.post(address, {"part": "remove", "name": "best"}).status_code == 302
    assert own_models.aliases_of(cast.organization) == {}
    assert "No names of your own" in client.get(address).content.decode()
