"""Images on their way out: each gets an address in the gallery, and goes there after the charge.

What the gallery cannot keep, the client gets all the same; the address is in the answer before the bytes are in place,
because the answer must not change after it was charged.
"""

import asyncio
import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from uuid import UUID

import structlog

from proxy.gateway import image_tool
from proxy.gateway.exchange import Exchange

log = structlog.get_logger(__name__)

VISIBILITIES = frozenset({"private", "unlisted", "public"})
KEEP_TIMEOUT_S = 5.0
_TOLD = ("size", "quality")
# The image tool is prompted by the model: its words are those of the image.
_TOLD_BY_CALL = (*_TOLD, "revised_prompt")


@dataclass(frozen=True, slots=True)
class MadeImage:
    """An image with its address-to-be."""

    id: UUID
    data: bytes
    media_type: str
    told: Mapping[str, Any] = field(default_factory=dict)  # what the answer said of it


@dataclass(slots=True)
class Batch:
    """The images of one request. `visibility` is that of its header, else the organization's default."""

    exchange: Exchange
    visibility: str
    images: list[MadeImage] = field(default_factory=list)


class ImageStore(Protocol):
    """The gallery, as the gateway sees it."""

    def address(self, data: bytes, visibility: str) -> tuple[MadeImage, str]:
        """An image with an id of its own, and the URL that will serve it. Does nothing that could fail or wait."""

    async def keep(self, batch: Batch, cost: int) -> None:
        """Take the images in. May raise anything: the answer goes out whatever becomes of it."""


class Gallery:
    """Gives images addresses and hands them over. Without a store it does nothing."""

    def __init__(self, store: ImageStore | None) -> None:
        self._store = store

    def begin(self, exchange: Exchange) -> Batch | None:
        """A batch for the exchange's images; None if they are not kept."""
        if self._store is None or exchange.endpoint.output_kind != "image" or not exchange.visibility:
            return None
        return Batch(exchange, exchange.visibility)

    def name(self, batch: Batch, item: dict[str, Any]) -> bool:
        """Put the address of the image in `item` beside its bytes; whether it has one."""
        try:
            data = base64.b64decode(item.get("b64_json") or item.get("result") or "", validate=True)
        except (binascii.Error, ValueError, TypeError):
            return False
        if not data or self._store is None:
            return False
        image, item["url"] = self._store.address(data, batch.visibility)
        names = _TOLD_BY_CALL if "result" in item else _TOLD
        told = {name: item[name] for name in names if isinstance(item.get(name), str)}
        batch.images.append(replace(image, told=told) if told else image)
        return True

    def name_all(self, batch: Batch, answer: dict[str, Any]) -> bool:
        """`name` for each image of a whole answer; whether any has an address now."""
        data = answer.get("data")
        items = data if isinstance(data, list) else image_tool.items(answer)
        return any([self.name(batch, item) for item in items if isinstance(item, dict)])

    async def keep(self, batch: Batch | None, cost: int) -> None:
        """Hand the images over. Waits for a bounded time and raises nothing."""
        if batch is None or not batch.images or self._store is None:
            return
        try:
            async with asyncio.timeout(KEEP_TIMEOUT_S):
                await self._store.keep(batch, cost)
        except Exception as error:  # the client's answer is worth more than our copy of it
            log.warning("images_not_kept", request_id=str(batch.exchange.request_id), error=type(error).__name__)
