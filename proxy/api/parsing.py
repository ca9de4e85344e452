"""Bodies of the management API: JSON objects, read with the gateway's limit."""

from collections.abc import Mapping
from typing import Any, BinaryIO

import orjson
from django.conf import settings
from rest_framework.parsers import BaseParser

from proxy.gateway.errors import InvalidJson, RequestTooLarge


class JsonObjectParser(BaseParser):
    """Raises `InvalidJson` or `RequestTooLarge`; what is read past the limit is one byte."""

    media_type = "application/json"

    def parse(
        self, stream: BinaryIO, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        limit: int = settings.GATEWAY_MAX_BODY_BYTES
        raw = stream.read(limit + 1)
        if len(raw) > limit:
            raise RequestTooLarge(limit)
        try:
            parsed = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise InvalidJson(error.msg) from None
        if not isinstance(parsed, dict):
            raise InvalidJson("expected an object")
        return parsed
