"""Images from the answer into the storage and out of it again, also when the storage is away."""

from datetime import timedelta
from unittest import mock

import pytest
from django.core.files.storage import FileSystemStorage
from django.utils import timezone

from accounts.models import AuditEntry
from gallery import keeping
from gallery.models import GallerySettings, Image, Orphan, SpooledImage
from gallery.tests import kit

pytestmark = pytest.mark.django_db


def files(storage):
    return sorted(path for path in storage.rglob("*") if path.is_file())


def test_an_image_is_kept_as_it_was_made_with_a_thumbnail(organization, storage):
    data = kit.picture("blue", (2_000, 1_000))
    image = kit.kept(organization, data, seed=7)
    assert (image.width, image.height, image.media_type, image.byte_size) == (2_000, 1_000, "image/png", len(data))
    assert keeping.read(image) == data
    thumbnail = keeping.read(image, thumbnail=True)
    assert keeping.sniff(thumbnail) == "image/webp"
    assert keeping.decode(thumbnail).size == (512, 256)
    assert not SpooledImage.objects.exists()
    assert str(organization.public_id) in image.name
    # Where the bucket has a public address, what is in the addresses of pages must not lead to a private image.
    assert all(len(name.partition(f"{image.public_id}-")[2]) > 22 for name in (image.name, image.thumbnail))
    assert len(files(storage)) == 2


def test_until_it_is_stored_it_is_read_from_the_spool(organization):
    image = kit.kept(organization, b"\x89PNG\r\n\x1a\nrest", is_stored=False)
    assert (image.media_type, keeping.read(image)) == ("image/png", b"\x89PNG\r\n\x1a\nrest")


def test_keeping_twice_keeps_once(organization):
    one = kit.made(organization)
    keeping.keep([one])
    keeping.keep([one])
    assert (Image.objects.count(), SpooledImage.objects.count()) == (1, 1)


def test_a_storage_that_is_away_is_tried_again_later(organization):
    image = kit.kept(organization, is_stored=False)
    with mock.patch.object(FileSystemStorage, "save", side_effect=OSError("away")):
        assert keeping.store_due() == 0
        assert keeping.store_due() == 0
    spooled = SpooledImage.objects.get()
    assert (spooled.attempts, spooled.next_at > timezone.now()) == (1, True)
    assert keeping.read(image) == kit.picture()
    SpooledImage.objects.update(next_at=timezone.now())
    assert keeping.store_due() == 1


@pytest.mark.parametrize(
    "data",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<html>",
        b"\x89PNG\r\n\x1a\n broken",
        kit.picture()[:-30] + b"x" * 10,
    ],
)
def test_what_is_no_picture_is_kept_but_never_as_one(organization, data):
    image = kit.kept(organization, data)
    assert (image.media_type, image.thumbnail, image.name.endswith(".bin")) == ("application/octet-stream", "", True)
    assert keeping.read(image) == data


def test_a_bomb_is_not_decoded(organization, monkeypatch):
    monkeypatch.setattr(keeping, "MAX_PIXELS", 1_000)
    assert keeping.decode(kit.picture(size=(100, 100))) is None
    assert keeping.decode(kit.picture(size=(10, 10))) is not None


@pytest.mark.parametrize(("kind", "media_type"), [("JPEG", "image/jpeg"), ("WEBP", "image/webp"), ("GIF", "image/gif")])
def test_other_formats(organization, kind, media_type):
    assert kit.kept(organization, kit.picture(kind=kind)).media_type == media_type


def test_deleting_takes_every_file_along(organization, storage, django_capture_on_commit_callbacks):
    images = [kit.kept(organization), kit.kept(organization)]
    with django_capture_on_commit_callbacks(execute=True):
        assert keeping.remove(images, by=None) == 2
    assert files(storage) == []
    assert not Orphan.objects.exists()
    assert AuditEntry.objects.get(action="image.delete").data["count"] == 2


def test_files_that_cannot_be_deleted_now_are_deleted_later(organization, storage, django_capture_on_commit_callbacks):
    image = kit.kept(organization)
    away = mock.patch.object(FileSystemStorage, "delete", side_effect=OSError("away"))
    with away, django_capture_on_commit_callbacks(execute=True):
        keeping.remove([image], by=None)
    assert Orphan.objects.count() == 2
    assert keeping.sweep() == 2
    assert files(storage) == []


def test_what_is_older_than_its_organization_keeps_it_goes(organization):
    old, new = kit.kept(organization), kit.kept(organization)
    Image.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=31))
    assert keeping.expire() == 0
    GallerySettings.objects.create(organization=organization, retention_days=30)
    assert keeping.expire() == 1
    assert list(Image.objects.all()) == [new]
