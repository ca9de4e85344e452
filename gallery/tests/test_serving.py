"""Who gets an image's bytes, how they may be kept, and parts of them."""

import time
from unittest import mock
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Membership, User
from gallery import links
from gallery.models import Image
from gallery.tests import kit

pytestmark = pytest.mark.django_db


def path_of(url: str) -> str:
    return url.removeprefix("http://localhost:8000").removeprefix("http://testserver")


@pytest.fixture(autouse=True)
def site(settings):
    settings.SITE_URL = "http://testserver"


def member_of(organization) -> Client:
    user = User.objects.create_user(f"{uuid4().hex}@example.com")
    Membership.objects.create(organization=organization, user=user, role="viewer")
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.mark.parametrize("is_stored", [True, False])
def test_a_public_image_is_the_same_bytes_for_everybody_for_a_year(client, organization, is_stored):
    image = kit.kept(organization, visibility="public", is_stored=is_stored)
    answer = client.get(path_of(links.of(image)))
    assert (answer.status_code, answer.content, answer["content-type"]) == (200, kit.picture(), "image/png")
    assert answer["cache-control"] == "public, max-age=31536000, s-maxage=86400, immutable"
    assert (answer["x-content-type-options"], answer["content-security-policy"]) == (
        "nosniff",
        "default-src 'none'; sandbox",
    )
    again = client.get(path_of(links.of(image)), headers={"if-none-match": answer["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-3", 206, slice(0, 4)),
        ("bytes=10-", 206, slice(10, None)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=0-999999", 206, slice(0, None)),
        ("bytes=999999-", 416, slice(0, 0)),
        ("bytes=5-2", 416, slice(0, 0)),
        ("bytes=-", 200, slice(0, None)),
        ("bytes=0-1,3-4", 200, slice(0, None)),
        ("words=1-2", 200, slice(0, None)),
    ],
)
def test_parts(client, organization, asked, status, part):
    image = kit.kept(organization, visibility="public")
    answer = client.get(path_of(links.of(image)), headers={"range": asked})
    assert (answer.status_code, answer.content) == (status, kit.picture()[part])


def test_a_private_image_needs_its_signature_or_its_organization(client, organization, django_user_model):
    image = kit.kept(organization)
    address = links.of(image)
    bare = path_of(address.partition("?")[0])
    assert client.get(bare).status_code == 404
    assert client.get(f"{bare}?s=wrong").status_code == 404
    signed = client.get(path_of(address))
    assert (signed.status_code, signed["cache-control"]) == (200, "private, max-age=600")
    other = kit.kept(organization)
    assert client.get(f"{path_of(links.of(other).partition('?')[0])}?{address.partition('?')[2]}").status_code == 404
    outsider = Client()
    outsider.force_login(User.objects.create_user("o@example.com"), backend="django.contrib.auth.backends.ModelBackend")
    assert outsider.get(bare).status_code == 404
    assert member_of(organization).get(bare).status_code == 200


def test_a_signature_ends(client, organization, settings):
    image = kit.kept(organization)
    address = path_of(links.of(image))
    later = time.time() + settings.GALLERY_LINK_S + 5
    with mock.patch("django.core.signing.time.time", return_value=later):
        assert client.get(address).status_code == 404


def test_what_staff_hide_is_gone_for_all_but_its_organization(client, organization):
    image = kit.kept(organization, visibility="public")
    Image.objects.update(is_hidden=True)
    assert client.get(path_of(links.of(image))).status_code == 404
    assert member_of(organization).get(path_of(links.of(image))).status_code == 200


def test_what_is_no_picture_is_an_attachment(client, organization):
    image = kit.kept(organization, b"<svg><script>alert(1)</script></svg>", visibility="public")
    answer = client.get(path_of(links.of(image)))
    assert (answer["content-type"], answer["content-disposition"].partition(";")[0]) == (
        "application/octet-stream",
        "attachment",
    )


def test_thumbnails(client, organization):
    image = kit.kept(organization, visibility="unlisted")
    assert client.get(path_of(links.thumbnail_of(image)))["content-type"] == "image/webp"
    spooled = kit.kept(organization, visibility="unlisted", is_stored=False)
    assert client.get(reverse("gallery:thumbnail", args=[spooled.public_id])).status_code == 404


def test_public_images_have_their_address_at_the_cdn(organization, settings):
    settings.R2_PUBLIC_URL = "https://cdn.example"
    image = kit.kept(organization, visibility="public")
    assert links.of(image) == f"https://cdn.example/{image.name}"
    assert links.thumbnail_of(image) == f"https://cdn.example/{image.thumbnail}"
    assert links.of(kit.kept(organization)).startswith("http://testserver/images/")
