"""Organizations that bring their own upstream key: which key a request goes out with, and whether it may go at all."""

from dataclasses import replace

from proxy.gateway.errors import Forbidden, InvalidRequest
from proxy.gateway.snapshots import Deployment, Key
from proxy.gateway.wire import Request

HEADER = "x-upstream-key"
MAX_KEY = 1_000


class UpstreamKeyRequired(Forbidden):
    """This installation calls providers with its customers' own keys alone."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"Your organization has no key of its own at the model's provider. Store one at {url} or send it in "
            f"{HEADER}.",
            code="upstream_key_required",
        )


def read(request: Request, *, is_offered: bool) -> str:
    """The key that came with the request; "" if none did. Raises `InvalidRequest`."""
    value = request.headers.get(HEADER, "").strip()
    if not value:
        return ""
    if not is_offered:
        raise InvalidRequest(f"{HEADER} is not used here: leave it out.", param=HEADER, code="unsupported_parameter")
    if len(value) > MAX_KEY or not value.isascii() or not value.isprintable():
        raise InvalidRequest(f"{HEADER} is not a key.", param=HEADER)
    return value


def has_key(deployments: tuple[Deployment, ...], key: Key, own_key: str) -> bool:
    """Whether any of these can be called with a key of the organization's own."""
    return bool(own_key) or any(deployment.provider in key.upstream_keys for deployment in deployments)


def with_own_key(deployment: Deployment, key: Key, own_key: str) -> Deployment:
    """The deployment as this organization calls it."""
    secret = own_key or key.upstream_keys.get(deployment.provider, "")
    return replace(deployment, api_key=secret, is_own_key=True) if secret else deployment
