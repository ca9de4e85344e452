"""What this app has of an organization, for its export: its images' data. Their files are downloaded in the console."""

from collections.abc import Iterator

from accounts.exports import Row, part
from accounts.models import Organization

CHUNK = 2_000


@part("images")
def images(of: Organization) -> Iterator[Row]:
    fields = (
        "public_id", "created_at", "model", "prompt", "size", "quality", "visibility", "media_type", "byte_size",
        "width", "height", "end_user", "request_id",
    )  # fmt: skip
    yield from of.images.order_by("pk").values(*fields).iterator(CHUNK)
