"""Images from the gateway to the gallery: addresses in answers, pages, the API, and the whole way with the SDK."""

import base64
import io
import zipfile
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import pytest
from django.test import Client
from django.urls import reverse
from openai import OpenAI

from accounts import keys
from billing import signed_receipts
from billing.money import nanos_from_credits
from billing.rate_json import parse
from config.tests import pages_kit
from config.tests.books import prove
from config.tests.processes import Installation, Service
from gallery import keeping
from gallery.models import Image, Report
from gallery.tests import kit as gallery_kit
from proxy.gateway.artifacts import Batch, MadeImage
from proxy.gateway.snapshots import Route
from proxy.tests.kit import DEPLOYMENT, KEY, Kit, Script, replace

PNG = gallery_kit.picture()
B64 = base64.b64encode(PNG).decode()
ROUTE = Route(
    model="m", owned_by="us", created=1, rate=parse("m", {"units": {"image": "0.01"}}), deployments=(DEPLOYMENT,)
)
ANSWER = Script([orjson.dumps({"created": 1, "data": [{"b64_json": B64}, {"b64_json": B64}]})])
BODY = {"model": "m", "prompt": "a fox", "n": 2}
GENERATIONS = "/v1/images/generations"


class Shelf:
    """A store of images in memory."""

    def __init__(self) -> None:
        self.kept: list[tuple[Batch, int]] = []
        self.is_away = False

    def address(self, data: bytes, visibility: str) -> tuple[MadeImage, str]:
        made = MadeImage(uuid4(), data, "image/png")
        return made, f"https://here/{made.id}?{visibility}"

    async def keep(self, batch: Batch, cost: int) -> None:
        if self.is_away:
            raise OSError("away")
        self.kept.append((batch, cost))


def kit(*scripts: Script, visibility: str = "private") -> tuple[Kit, Shelf]:
    shelf = Shelf()
    made = Kit(*scripts, key=replace(KEY, image_visibility=visibility), routes=(ROUTE,), images=shelf)
    return made, shelf


async def test_every_image_gets_an_address_and_is_kept_after_the_charge():
    one, shelf = kit(ANSWER)
    data = (await one.call(GENERATIONS, BODY)).json()["data"]
    ((batch, cost),) = shelf.kept
    assert [item["url"] for item in data] == [f"https://here/{image.id}?private" for image in batch.images]
    assert [item["b64_json"] for item in data] == [B64, B64]
    assert [image.data for image in batch.images] == [PNG, PNG]
    assert cost == one.teller.captures[0].cost == 20_000_000


async def test_a_request_may_say_who_sees_its_images():
    one, shelf = kit(ANSWER)
    await one.call(GENERATIONS, BODY, headers={"x-gallery-visibility": "public"})
    assert shelf.kept[0][0].visibility == "public"
    refused = await one.call(GENERATIONS, BODY, headers={"x-gallery-visibility": "everyone"})
    assert (refused.status, refused.error["param"]) == (400, "x-gallery-visibility")


async def test_who_keeps_none_gets_answers_as_they_came():
    one, shelf = kit(ANSWER, visibility="")
    assert (
        "url" not in (await one.call(GENERATIONS, BODY, headers={"x-gallery-visibility": "public"})).json()["data"][0]
    )
    assert shelf.kept == []


async def test_a_gallery_that_fails_harms_nobody():
    one, shelf = kit(ANSWER)
    shelf.is_away = True
    answer = await one.call(GENERATIONS, BODY)
    assert answer.status == 200
    assert one.teller.captures[0].outcome == "completed"


async def test_what_is_not_base64_is_passed_as_it_is():
    one, shelf = kit(Script([orjson.dumps({"data": [{"b64_json": "!!"}, {"url": "https://else"}, 7]})]))
    assert (await one.call(GENERATIONS, BODY)).json()["data"] == [{"b64_json": "!!"}, {"url": "https://else"}, 7]
    assert shelf.kept == []


async def test_streamed_images_get_addresses_too():
    event = {"type": "image_generation.completed", "b64_json": B64}
    partial = {"type": "image_generation.partial_image", "b64_json": B64, "partial_image_index": 0}
    pieces = [f"event: {one['type']}\ndata: ".encode() + orjson.dumps(one) + b"\n\n" for one in (partial, event)]
    one, shelf = kit(Script(pieces, content_type="text/event-stream"))
    answer = await one.call(GENERATIONS, {**BODY, "n": 1, "stream": True})
    first, last = (orjson.loads(data) for data in answer.events)
    assert "url" not in first
    assert last["url"] == f"https://here/{shelf.kept[0][0].images[0].id}?private"


# ---------------------------------------------------------------- pages and API


@pytest.fixture
def cast(db, settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    return pages_kit.cast()


def test_the_public_gallery_shows_what_is_public_and_safe(cast, client, django_assert_max_num_queries):
    shown = gallery_kit.kept(cast.organization, visibility="public", prompt="a <fox> & snow")
    for fields in ({}, {"visibility": "unlisted"}):
        gallery_kit.kept(cast.organization, prompt="hidden away", **fields)
    for change in ({"is_hidden": True}, {"is_nsfw": True}):
        other = gallery_kit.kept(cast.organization, visibility="public", prompt="hidden away")
        Image.objects.filter(pk=other.pk).update(**change)
    with django_assert_max_num_queries(3):
        page = client.get(reverse("gallery:gallery")).content.decode()
    assert "a &lt;fox&gt; &amp; snow" in page
    assert "hidden away" not in page
    assert str(shown.public_id) in page
    assert "Nothing found" in client.get(reverse("gallery:gallery"), {"q": "unicorn"}).content.decode()
    assert str(shown.public_id) in client.get(reverse("gallery:gallery"), {"q": "snow"}).content.decode()


def test_the_gallery_goes_on_by_a_real_link(cast, client, monkeypatch):
    monkeypatch.setattr("gallery.browsing.PAGE_SIZE", 2)
    monkeypatch.setattr("gallery.browsing.public.__kwdefaults__", {"after": None, "size": 2})
    images = [gallery_kit.kept(cast.organization, visibility="public", is_stored=False) for _ in range(5)]
    first = client.get(reverse("gallery:gallery")).content.decode()
    assert f"?after={images[3].pk}" in first
    rest = client.get(reverse("gallery:gallery"), {"after": images[3].pk}, headers={"hx-request": "true"})
    assert str(images[2].public_id) in rest.content.decode()
    assert "<html" not in rest.content.decode()


def test_one_image_shows_its_cost_to_its_own_people_alone(cast, client):
    image = gallery_kit.kept(cast.organization, visibility="public", cost_nanos=42_000_000)
    address = reverse("gallery:detail", args=[image.public_id])
    assert "4.20" not in client.get(address).content.decode()
    assert "4.20" in cast.client("viewer").get(address).content.decode()
    private = gallery_kit.kept(cast.organization)
    address = reverse("gallery:detail", args=[private.public_id])
    assert [cast.client(who).get(address).status_code for who in ("viewer", "outsider", "anonymous")] == [200, 404, 404]


def test_bulk_changes_zip_and_deleting(cast):
    images = [gallery_kit.kept(cast.organization) for _ in range(3)]
    foreign = gallery_kit.kept(pages_kit.cast().organization)
    address = reverse("gallery:own-images", args=[cast.organization.slug])
    client = cast.client("developer")
    chosen = [str(image.public_id) for image in (*images[:2], foreign)]
    client.post(address, {"action": "public", "image": chosen})
    assert sorted(Image.objects.filter(visibility="public").values_list("pk", flat=True)) == [
        images[0].pk,
        images[1].pk,
    ]
    archive = b"".join(client.post(address, {"action": "zip", "image": chosen}).streaming_content)
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert sorted(opened.namelist()) == sorted(f"{image.public_id}.png" for image in images[:2])
        assert opened.read(opened.namelist()[0]) == PNG
    asked = client.post(address, {"action": "delete", "image": chosen}).content.decode()
    assert "Delete 2 images?" in asked
    assert Image.objects.count() == 4
    client.post(address, {"action": "delete", "confirmed": "1", "image": chosen})
    assert set(Image.objects.values_list("pk", flat=True)) == {images[2].pk, foreign.pk}


def test_settings_reach_the_gateway(cast):
    address = reverse("gallery:own-images", args=[cast.organization.slug])
    form = {
        "action": "settings",
        "settings-is_kept": "on",
        "settings-visibility": "unlisted",
        "settings-retention_days": "9",
    }
    assert cast.client("admin").post(address, form).status_code == 302
    wanted = keeping.settings_of(cast.organization)
    assert (wanted.is_kept, wanted.visibility, wanted.retention_days) == (True, "unlisted", 9)
    from proxy.key_snapshots import snapshot_of

    assert snapshot_of(pages_kit.key_of(cast.organization)).image_visibility == "unlisted"


def test_a_report_reaches_staff_who_hide_the_image(cast, client):
    image = gallery_kit.kept(cast.organization, visibility="public")
    client.post(reverse("gallery:report", args=[image.public_id]), {"reason": "not nice"})
    assert Report.objects.get().reason == "not nice"
    staff = Client()
    person = pages_kit.person("boss", is_staff=True, is_superuser=True)
    staff.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    changelist = reverse("admin:gallery_image_changelist")
    page = staff.get(changelist)
    assert page.status_code == 200
    assert '<link rel="icon"' in page.content.decode()  # else the browser asks for /favicon.ico
    staff.post(changelist, {"action": "hide", "_selected_action": [image.pk]})
    assert Image.objects.get().is_hidden
    assert Report.objects.get().resolved_by == person
    assert client.get(reverse("gallery:detail", args=[image.public_id])).status_code == 404
    form = reverse("admin:gallery_image_change", args=[image.pk])
    staff.post(form, {"visibility": "public"})
    assert not Image.objects.get().is_hidden
    staff.post(form, {"visibility": "private", "is_nsfw": "on"})
    image = Image.objects.get()
    assert (image.visibility, image.is_nsfw, image.version) == ("private", True, 2)


def test_the_api(cast, client):
    secret = keys.issue(organization=cast.organization, name="api").secret
    other = keys.issue(organization=pages_kit.cast().organization, name="api").secret
    mine = {"authorization": f"Bearer {secret}"}
    foreign = {"authorization": f"Bearer {other}"}
    public = gallery_kit.kept(cast.organization, visibility="public", prompt="red fox")
    private = gallery_kit.kept(cast.organization, prompt="blue owl", model="other")
    listed = client.get("/v1/images").json()
    assert [item["id"] for item in listed["data"]] == [str(public.public_id)]
    assert "cost_credits" not in listed["data"][0]
    owned = client.get("/v1/images", {"mine": "1"}, headers=mine).json()["data"]
    assert [item["id"] for item in owned] == [str(private.public_id), str(public.public_id)]
    assert owned[0]["cost_credits"] == "0.0001"
    page = client.get("/v1/images", {"mine": "1", "limit": "1"}, headers=mine).json()
    assert (page["has_more"], len(page["data"])) == (True, 1)
    rest = client.get("/v1/images", {"mine": "1", "after": page["next"]}, headers=mine).json()
    assert (rest["has_more"], rest["data"][0]["id"]) == (False, str(public.public_id))
    assert client.get("/v1/images", {"q": "owl"}).json()["data"] == []
    assert len(client.get("/v1/images", {"q": "fox"}).json()["data"]) == 1
    assert client.get("/v1/images", {"mine": "1"}).status_code == 403
    assert client.get("/v1/images", {"after": "x"}).json()["error"]["param"] == "after"

    address = f"/v1/images/{private.public_id}"
    assert [client.get(address, headers=who).status_code for who in ({}, foreign, mine)] == [404, 404, 200]
    for who in ({}, foreign):
        assert client.patch(
            f"/v1/images/{public.public_id}", {"visibility": "private"}, "application/json", headers=who
        ).status_code in {403, 404}
        assert client.delete(f"/v1/images/{public.public_id}", headers=who).status_code in {403, 404}
    changed = client.patch(address, {"visibility": "public"}, "application/json", headers=mine).json()
    assert changed["visibility"] == "public"
    wrong = client.patch(address, {"visibility": "x"}, "application/json", headers=mine)
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "visibility")
    assert client.delete(address, headers=mine).json()["deleted"] is True
    assert client.get(address, headers=mine).status_code == 404
    scoped = keys.issue(organization=cast.organization, name="chat", scopes=["chat"]).secret
    assert client.get("/v1/images", headers={"authorization": f"Bearer {scoped}"}).status_code == 403


# ---------------------------------------------------------------- all the way


@pytest.mark.processes
@pytest.mark.xdist_group("sandbox")
def test_generated_edited_and_streamed_images_are_served_as_they_were_made(site: Installation, web: Service) -> None:
    provider = site.provider("gallery-key")
    try:
        site.clerk.model(
            name="painter", base_url=f"{provider.url}/v1", upstream_name="gpt-image-2", api_key="gallery-key",
            rates={"input": "5", "image_input": "8", "image_output": "30"},
        )  # fmt: skip
        customer = site.clerk.organization(name="painter", credit_nanos=10**12)
        client = OpenAI(base_url=f"{web.url}/v1", api_key=customer["secret"], max_retries=0)
        generated = client.images.generate(
            model="painter",
            prompt="a fox",
            quality="low",
            size="512x512",
            extra_headers={"x-gallery-visibility": "public"},
        )
        edited = client.images.edit(
            model="painter", prompt="more", quality="low", size="512x512", image=("a.png", PNG), mask=("m.png", PNG)
        )
        streamed = list(client.images.generate(
            model="painter", prompt="a hen", quality="low", size="512x512", stream=True, partial_images=1
        ))  # fmt: skip
        found = [(one.url, one.b64_json) for one in (*(generated.data or []), *(edited.data or []))]
        found.append((streamed[-1].to_dict()["url"], streamed[-1].b64_json))
        for _ in range(2):
            for url, b64 in found:
                answer = httpx.get(url)
                assert (answer.status_code, answer.content) == (200, base64.b64decode(b64))
            site.clerk.store_images()
        assert site.query("SELECT count(*) AS n FROM gallery_spooledimage")[0]["n"] == 0
        mine = httpx.get(f"{web.url}/v1/images?mine=1", headers={"authorization": f"Bearer {customer['secret']}"})
        assert [item["prompt"] for item in mine.json()["data"]] == ["a hen", "more", "a fox"]
        assert UUID(mine.json()["data"][0]["id"])
        assert all(item["thumbnail_url"].partition("?")[0].endswith("thumbnail.webp") for item in mine.json()["data"])
        cost = site.query(
            "SELECT sum(cost_nanos) AS n FROM billing_usagerecord WHERE account_id = %s", customer["account_id"]
        )
        kept = site.query("SELECT sum(cost_nanos) AS n FROM gallery_image WHERE model = 'painter'")
        assert cost[0]["n"] == kept[0]["n"] > 0
    finally:
        provider.stop()


@pytest.mark.processes
@pytest.mark.xdist_group("sandbox")
def test_images_of_the_responses_tool_are_kept_charged_apart_and_prove(site: Installation, web: Service) -> None:
    provider = site.provider("tool-key")
    try:
        served = {"base_url": f"{provider.url}/v1", "api_key": "tool-key"}
        site.clerk.model(name="writer", upstream_name="gpt-4o-mini", rates={"input": "1", "output": "2"}, **served)
        site.clerk.model(
            name="sketcher", upstream_name="gpt-image-2", rates={"input": "5", "image_output": "30"}, **served
        )
        customer = site.clerk.organization(name="sketcher", credit_nanos=10**12)
        client = OpenAI(base_url=f"{web.url}/v1", api_key=customer["secret"], max_retries=0)
        sent: Any = {
            "model": "writer",
            "tools": [{"type": "image_generation", "model": "sketcher", "quality": "low", "size": "512x512"}],
        }
        raw = client.responses.with_raw_response.create(input="draw a fox", **sent)
        with client.responses.create(input="draw a hen", stream=True, **sent) as events:
            last = list(events)[-1]
        assert last.type == "response.completed"
        items = [raw.parse().output[0].to_dict(), last.response.output[0].to_dict()]
        for _ in range(2):
            for item in items:
                answer = httpx.get(str(item["url"]))
                assert (answer.status_code, answer.content) == (200, base64.b64decode(str(item["result"])))
            site.clerk.store_images()
        mine = {"authorization": f"Bearer {customer['secret']}"}
        told = httpx.get(f"{web.url}/v1/images?mine=1", headers=mine).json()["data"]
        assert [(one["prompt"], one["model"], one["size"]) for one in told] == [
            ("A picture: draw a hen", "sketcher", "512x512"),
            ("A picture: draw a fox", "sketcher", "512x512"),
        ]
        receipt, keys_of = (
            httpx.get(f"{web.url}{path}", headers=mine).json()
            for path in (f"/v1/receipts/{raw.headers['x-image-request-id']}", "/.well-known/receipt-keys.json")
        )
        # The simulated image is 272 tokens whatever its size, its words are 3.
        verified = signed_receipts.verify(receipt, keys_of["keys"][0])
        assert verified.charged_nanos == verified.computed_nanos == 272 * 30_000 + 3 * 5_000
        spent = site.query(
            "SELECT sum(cost_nanos)::bigint AS n FROM billing_usagerecord WHERE account_id = %s", customer["account_id"]
        )[0]["n"]
        kept = site.query("SELECT sum(cost_nanos)::bigint AS n FROM gallery_image WHERE model = 'sketcher'")[0]["n"]
        assert kept == 2 * verified.charged_nanos
        assert nanos_from_credits(raw.headers["x-cost-credits"]) > verified.charged_nanos
        prove(site, customer, credit=10**12, spent=spent)
    finally:
        provider.stop()
