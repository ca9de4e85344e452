"""Images for tests."""

import io
from typing import Any
from uuid import UUID

from PIL import Image as Picture
from uuid_utils.compat import uuid7

from accounts import keys
from accounts.models import Organization
from gallery import keeping
from gallery.keeping import Made
from gallery.models import Image


def picture(colour: str = "red", size: tuple[int, int] = (64, 32), kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Picture.new("RGB", size, colour).save(out, kind)
    return out.getvalue()


def made(organization: Organization, data: bytes | None = None, **fields: Any) -> Made:
    data = picture() if data is None else data
    key = organization.keys.first() or keys.issue(organization=organization, name="k").key
    values = {
        "public_id": UUID(int=uuid7().int),
        "organization_id": organization.pk,
        "key_id": key.pk,
        "request_id": UUID(int=uuid7().int),
        "data": data,
        "media_type": keeping.sniff(data),
        "prompt": "a red fox in the snow",
        "model": "gpt-image-2",
        "size": "1024x1024",
        "quality": "low",
        "seed": None,
        "cost_nanos": 1_000,
        "end_user": "",
        "visibility": "private",
    }
    return Made(**values | fields)


def kept(organization: Organization, data: bytes | None = None, *, is_stored: bool = True, **fields: Any) -> Image:
    one = made(organization, data, **fields)
    keeping.keep([one])
    if is_stored:
        assert keeping.store_due() == 1
    return Image.objects.get(public_id=one.public_id)
