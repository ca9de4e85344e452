"""The gallery as the gateway's store of images."""

from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import close_old_connections
from uuid_utils.compat import uuid7

from gallery import keeping, links
from gallery.keeping import Made
from proxy.gateway.artifacts import Batch, MadeImage


class GalleryStore:
    """See `proxy.gateway.artifacts.ImageStore`."""

    def address(self, data: bytes, visibility: str) -> tuple[MadeImage, str]:
        made = MadeImage(id=uuid7(), data=data, media_type=keeping.sniff(data))
        return made, links.url_of(UUID(int=made.id.int), made.media_type, visibility)

    async def keep(self, batch: Batch, cost: int) -> None:
        exchange, body = batch.exchange, batch.exchange.job.body
        share = cost // len(batch.images)
        seed = body.get("seed")
        rows = [
            Made(
                public_id=UUID(int=image.id.int),
                organization_id=exchange.key.organization_id,
                key_id=exchange.key.id,
                request_id=exchange.request_id,
                data=image.data,
                media_type=image.media_type,
                prompt=image.told.get("revised_prompt") or str(body.get("prompt") or ""),
                model=exchange.route.model,
                size=image.told.get("size") or str(body.get("size") or ""),
                quality=image.told.get("quality") or str(body.get("quality") or ""),
                seed=seed if isinstance(seed, int) and abs(seed) < 2**62 else None,
                cost_nanos=share,
                end_user=exchange.end_user,
                visibility=batch.visibility,
            )
            for image in batch.images
        ]
        await sync_to_async(_keep, thread_sensitive=False)(rows)


def _keep(rows: list[Made]) -> None:
    close_old_connections()
    try:
        keeping.keep(rows)
    finally:
        close_old_connections()
