"""What the playground's pages hold, ask of the database, and refuse."""

import json
import re
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts import keys
from billing import rates
from config.tests import pages_kit
from config.tests.pages_kit import Cast
from proxy import conversations, offers
from proxy.conversations import Said
from proxy.models import Conversation, Deployment, Model, OrganizationAlias, Provider

pytestmark = pytest.mark.django_db

TABS = ("playground", "playground-images", "playground-transcription", "playground-speech")
# Session, user, membership, the switcher, the incidents, the models (4); then what the tab itself asks.
MAX_QUERIES = 14


@pytest.fixture
def cast() -> Cast:
    return pages_kit.cast()


@pytest.fixture
def client(cast: Cast) -> Client:
    return cast.client("developer")


def offer(name: str, *endpoints: str, price: dict[str, Any] | None = None, **fields: Any) -> Model:
    """A model that is served and has a price."""
    provider, _ = Provider.objects.get_or_create(slug="p", kind="openai-compatible", base_url="https://p/v1")
    model = Model.objects.create(name=name, endpoints=list(endpoints), **fields)
    Deployment.objects.create(model=model, provider=provider, upstream_name=name)
    rates.set_price(model=name, rates=price or {"input": "0.15", "output": "0.6"})
    return model


def said(cast: Cast, who: str = "developer", text: str = "What is a tuppence?") -> Conversation:
    return pages_kit.conversation(cast.organization, cast.users[who], text)


def address(name: str, cast: Cast, *rest: object) -> str:
    return reverse(f"proxy:{name}", args=[cast.organization.slug, *rest])


def text_of(response: HttpResponse) -> str:
    return unescape(response.content.decode())


# ---------------------------------------------------------------- Pages


@pytest.mark.parametrize("name", TABS)
def test_every_tab_has_a_strict_policy_and_few_queries(name: str, cast: Cast, client: Client) -> None:
    for number in range(20):
        offer(f"m{number}", offers.CHAT, offers.GENERATIONS, offers.TRANSCRIPTIONS, offers.SPEECH)
        said(cast)
    with CaptureQueriesContext(
        connection,
    ) as asked:
        response = client.get(address(name, cast))
    assert response.status_code == 200
    assert len(asked) <= MAX_QUERIES, [query["sql"][:120] for query in asked]
    policy = response["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert ("media-src 'self' blob:" in policy) == (name in {"playground-transcription", "playground-speech"})
    page = response.content.decode()
    assert " style=" not in page
    assert not re.search(r"\son[a-z]+=", page)
    assert all("src=" in attributes for attributes in re.findall(r"<script([^>]*)>", page))


def test_a_long_conversation_costs_no_more_queries(cast: Cast, client: Client) -> None:
    offer("gpt-fast", offers.CHAT)
    one = said(cast)
    for number in range(30):
        answered = Said(role="assistant", text=str(number), model="gpt-fast", request_id=uuid4())
        conversations.say(conversation=one, said=answered)
    with CaptureQueriesContext(connection) as asked:
        page = text_of(client.get(address("conversation", cast, one.public_id)))
    assert len(asked) <= MAX_QUERIES + 2
    assert page.count('data-role="assistant"') == 32  # with the one that the script copies


@pytest.mark.parametrize("name", TABS)
def test_without_a_model_the_next_step_is_shown(name: str, cast: Cast, client: Client) -> None:
    page = text_of(client.get(address(name, cast)))
    assert "No model for this here" in page
    assert address("models", cast) in page


def test_what_was_said_is_text(cast: Cast, client: Client) -> None:
    offer("gpt-fast", offers.CHAT)
    one = said(cast, text="<script>alert(1)</script>")
    page = client.get(address("conversation", cast, one.public_id)).content.decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_model_that_is_gone_is_said_to_be(cast: Cast, client: Client) -> None:
    offer("other", offers.CHAT)
    page = text_of(client.get(address("conversation", cast, said(cast).public_id)))
    assert "gpt-fast (not offered now)" in page


# ---------------------------------------------------------------- Models


def test_only_what_is_served_priced_and_allowed_is_offered(cast: Cast) -> None:
    offer("chats", offers.CHAT)
    offer("draws", offers.GENERATIONS)
    offer("anything", modality="text")
    model = Model.objects.create(name="unpriced", endpoints=[offers.CHAT])
    Deployment.objects.create(model=model, provider=Provider.objects.get(slug="p"), upstream_name="unpriced")
    Model.objects.create(name="unserved", endpoints=[offers.CHAT])
    assert {one.name for one in offers.of(cast.organization, offers.CHAT)} == {"chats", "anything"}
    keys.issue(organization=cast.organization, name="Playground", allowed_models=["chats"])
    assert [one.name for one in offers.of(cast.organization, offers.CHAT)] == ["chats"]


def test_an_organizations_own_names_come_first(cast: Cast) -> None:
    model = offer("chats", offers.CHAT, owned_by="maker", capabilities=["vision", "batch"])
    OrganizationAlias.objects.create(organization=cast.organization, name="summaries", model=model)
    found = offers.of(cast.organization, offers.CHAT)
    assert [(one.name, one.group) for one in found] == [("summaries", offers.OWN_NAMES), ("chats", "maker")]
    assert [(one.sees, one.capabilities) for one in found] == [(True, ("Vision",))] * 2


@pytest.mark.parametrize(
    ("price", "told"),
    [
        ({"input": "0.15", "output": "0.6"}, "$0.15 in, $0.60 out per 1M tokens"),
        ({"input": "0", "output": "0.000001"}, "$0.00 in, $0.000001 out per 1M tokens"),
        ({"units": {"minute": "0.006"}}, "$0.006 per minute"),
        ({"units": {"million_characters": "15"}}, "$15.00 per 1M characters"),
        ({"units": {"image": "0.0006352"}}, "$0.0006352 per image"),
        ({"input": "0.6", "audio_output": "12"}, "$0.60 in, $12.00 sound out per 1M tokens"),
    ],
)
def test_a_price_is_a_line(cast: Cast, price: dict[str, Any], told: str) -> None:
    offer("m", offers.CHAT, price=price)
    assert offers.of(cast.organization, offers.CHAT)[0].price == told


# ---------------------------------------------------------------- Conversations


def test_a_conversation_is_found_by_its_author_alone(cast: Cast) -> None:
    offer("gpt-fast", offers.CHAT)
    one = said(cast, "admin")
    names = ("conversation", "conversation-json", "conversation-markdown", "conversation-rename", "conversation-delete")
    for name in names:
        assert cast.client("admin").get(address(name, cast, one.public_id)).status_code == 200
        assert cast.client("owner").get(address(name, cast, one.public_id)).status_code == 404
    assert one.title not in text_of(cast.client("owner").get(address("playground", cast)))


def test_a_conversation_of_another_organization_is_not_found(cast: Cast) -> None:
    elsewhere = pages_kit.cast()
    theirs = said(elsewhere, "owner")
    pages_kit.Membership.objects.create(organization=cast.organization, user=elsewhere.users["owner"], role="admin")
    client = elsewhere.client("owner")  # the very author, but by the other organization's address
    assert client.get(address("conversation", cast, theirs.public_id)).status_code == 404
    assert client.post(address("conversation-delete", cast, theirs.public_id)).status_code == 404
    assert Conversation.objects.filter(pk=theirs.pk).exists()


def test_messages_are_kept_with_the_cost_of_their_own_organizations_request(cast: Cast, client: Client) -> None:
    record = pages_kit.request_of(pages_kit.key_of(cast.organization))
    theirs = pages_kit.request_of(pages_kit.key_of(pages_kit.cast().organization))
    fields = {"model": "gpt-fast", "role": "user", "text": "Hi", "temperature": "0.5"}
    begun = client.post(address("conversation-start", cast), fields).json()
    one = Conversation.objects.get(public_id=begun["id"])
    assert (one.title, one.settings, one.author) == ("Hi", {"temperature": 0.5}, cast.users["developer"])
    costs = []
    for request_id in (record.request_id, theirs.request_id):
        answered = {"role": "assistant", "text": "Ho", "answered_by": "gpt-fast", "request_id": request_id.hex}
        response = client.post(address("conversation-say", cast, one.public_id), answered)
        assert response.status_code == 201
        costs.append(response.json()["message"]["cost"])
    assert costs == ["0.1234567", None]
    assert client.get(address("playground-cost", cast, f"req_{record.request_id.hex}")).json() == {
        "credits": "0.1234567"
    }
    for unknown in (theirs.request_id.hex, uuid4().hex, "nonsense"):
        assert client.get(address("playground-cost", cast, unknown)).json() == {"credits": None}


def test_a_cost_that_was_not_known_is_there_later(cast: Cast, client: Client) -> None:
    offer("gpt-fast", offers.CHAT)
    record = pages_kit.request_of(pages_kit.key_of(cast.organization))
    one = said(cast)
    one.messages.filter(role="assistant").update(request_id=record.request_id)
    assert "0.1234567 credits" in text_of(client.get(address("conversation", cast, one.public_id)))
    exported = json.loads(client.get(address("conversation-json", cast, one.public_id)).content)
    assert exported["cost_credits"] == "0.1234567"


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": ""},
        {"role": "system"},
        {"images": '["https://elsewhere.example/a.png"]'},
        {"images": '{"a": 1}'},
        {"images": json.dumps(["data:image/png;base64,AAAA"] * 9)},
        {"temperature": "3"},
        {"max_tokens": "0"},
        {"model": ""},
    ],
)
def test_what_cannot_be_kept_is_said(wrong: dict[str, str], cast: Cast, client: Client) -> None:
    fields = {"model": "gpt-fast", "role": "user", "text": "Hi"} | wrong
    response = client.post(address("conversation-start", cast), fields)
    assert response.status_code == 422
    assert response.json()["error"]
    assert not Conversation.objects.exists()


def test_the_list_is_searched_alone(cast: Cast, client: Client) -> None:
    said(cast, text="The sky?")
    said(cast, text="The grass?")
    page = text_of(client.get(address("playground", cast) + "?q=sky", headers={"HX-Request": "true"}))
    assert "The sky?" in page
    assert "The grass?" not in page
    assert "<html" not in page


def test_a_fork_is_opened(cast: Cast, client: Client) -> None:
    one = said(cast)
    first = one.messages.first()
    assert first
    response = client.post(address("conversation-fork", cast, one.public_id), {"message": first.public_id})
    made = Conversation.objects.latest("pk")
    assert response["location"] == address("conversation", cast, made.public_id)
    assert made.messages.count() == 1


# ---------------------------------------------------------------- Images


def test_an_image_of_the_gallery_is_prefilled_if_it_may_be_seen(cast: Cast, client: Client) -> None:
    offer("gpt-image-2", offers.GENERATIONS, offers.EDITS)
    elsewhere = pages_kit.cast().organization
    images = {
        "own": pages_kit.image(cast.organization, prompt="own prompt"),
        "public": pages_kit.image(elsewhere, prompt="public prompt", visibility="public"),
        "private": pages_kit.image(elsewhere, prompt="private prompt"),
    }
    seen = {}
    for name, image in images.items():
        page = text_of(client.get(address("playground-images", cast) + f"?image={image.public_id}"))
        seen[name] = (image.prompt in page, f"/images/{image.public_id}.png" in page)
    assert seen == {"own": (True, True), "public": (True, True), "private": (False, False)}
    page = text_of(client.get(address("playground-images", cast) + "?prompt=A+fox&model=gpt-image-2&image=nonsense"))
    assert "A fox</textarea>" in page


def test_the_gallery_leads_to_the_playground(cast: Cast, client: Client) -> None:
    image = pages_kit.image(cast.organization, visibility="public")
    detail = reverse("gallery:detail", args=[image.public_id])
    own, mine = address("playground-images", cast), reverse("proxy:playground-mine")
    assert f"{own}?image={image.public_id}" in text_of(client.get(detail))
    assert "Open in playground" not in text_of(cast.client("viewer").get(detail))
    assert f"{mine}?image={image.public_id}" in text_of(Client().get(detail))
    client.get(address("overview", cast))
    assert client.get(f"{mine}?image=x")["location"] == f"{own}?image=x"
