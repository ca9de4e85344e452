"""What fewer may see than before: addresses that end, files that move, storages that are away."""

from unittest import mock

import pytest
from django.core.files.storage import FileSystemStorage, default_storage
from django.test import Client

from gallery import keeping, links, showing
from gallery.models import Image, Orphan
from gallery.tests import kit

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def site(settings):
    settings.SITE_URL = "http://testserver"


def status(url: str) -> int:
    return Client().get(url.removeprefix("http://testserver")).status_code


def change(image: Image, visibility: str) -> Image:
    showing.set_visibility([Image.objects.get(pk=image.pk)], visibility, by=None)
    return Image.objects.get(pk=image.pk)


@pytest.mark.parametrize(("before", "after"), [("public", "private"), ("unlisted", "private"), ("public", "unlisted")])
def test_addresses_end_when_fewer_may_see_an_image(organization, before, after):
    image = kit.kept(organization, visibility=before)
    old = links.of(image), links.thumbnail_of(image)
    image = change(image, after)
    new = links.of(image), links.thumbnail_of(image)
    assert [status(url) for url in (*old, *new)] == [404, 404, 200, 200]
    assert status(f"{old[0]}?{new[0].partition('?')[2]}") == 404
    image = change(image, "public")
    assert [status(url) for url in (*old, links.of(image))] == [404, 404, 200]


@pytest.mark.parametrize(("before", "after"), [("private", "public"), ("unlisted", "public"), ("public", "public")])
def test_addresses_stay_when_as_many_may_see_it(organization, before, after):
    image = kit.kept(organization, visibility=before)
    old = links.of(image)
    change(image, after)
    assert status(old) == 200


def test_what_staff_hide_has_another_address_when_it_is_shown_again(organization):
    image = kit.kept(organization, visibility="public")
    old = links.of(image)
    rows = Image.objects.filter(pk=image.pk)
    assert (showing.set_hidden(rows, True), showing.set_hidden(rows, True), showing.set_hidden(rows, False)) == (
        1,
        1,
        1,
    )
    shown = rows.get()
    assert (shown.version, status(old), status(links.of(shown))) == (1, 404, 200)


def test_files_of_a_public_bucket_move_when_they_are_public_no_more(organization, settings):
    settings.R2_PUBLIC_URL = "https://cdn.example"
    image = kit.kept(organization, visibility="public")
    assert str(image.public_id) in image.name
    moving = change(image, "private")
    assert (moving.is_moving, links.of(change(image, "public")).startswith("http://testserver/")) == (True, True)
    with mock.patch.object(FileSystemStorage, "save", side_effect=OSError("away")):
        assert showing.move_due() == 0
    assert (showing.move_due(), showing.move_due()) == (1, 0)
    moved = Image.objects.get()
    assert moved.name not in {image.name, ""}
    assert [default_storage.exists(name) for name in (image.name, image.thumbnail)] == [False, False]
    assert keeping.sniff(keeping.read(moved, thumbnail=True) or b"") == "image/webp"
    assert (keeping.read(moved), links.of(moved)) == (kit.picture(), f"https://cdn.example/{moved.name}")
    assert not Orphan.objects.exists()


def test_a_file_that_is_gone_does_not_hold_up_the_others(organization, settings):
    settings.R2_PUBLIC_URL = "https://cdn.example"
    images = [kit.kept(organization, visibility="public") for _ in range(2)]
    default_storage.delete(images[1].name)
    showing.set_visibility(images, "private", by=None)
    assert showing.move_due() == 2
    assert not Image.objects.filter(is_moving=True).exists()


def test_an_image_that_moved_meanwhile_is_deleted_with_its_new_files(
    organization, storage, settings, django_capture_on_commit_callbacks
):
    settings.R2_PUBLIC_URL = "https://cdn.example"
    image = kit.kept(organization, visibility="public")
    change(image, "private")
    showing.move_due()
    with django_capture_on_commit_callbacks(execute=True):
        keeping.remove([image], by=None)
    assert [path for path in storage.rglob("*") if path.is_file()] == []
