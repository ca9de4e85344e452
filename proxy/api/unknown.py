"""Default-deny: what is not served is 404 in OpenAI's shape, for those who have a key."""

from typing import NoReturn

from rest_framework.decorators import api_view, permission_classes
from rest_framework.request import Request

from proxy.api.authentication import AnyKey
from proxy.gateway.errors import UnknownUrl


@api_view(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"])
@permission_classes([AnyKey])
def unknown(request: Request) -> NoReturn:
    raise UnknownUrl(request.method or "", request.path)
