"""Numbers of a query, such as a page's size and where it goes on."""

from rest_framework.request import Request

from proxy.gateway.errors import InvalidRequest

_MAX_DIGITS = 18
_NONSENSE = -1


def above_zero(request: Request, name: str) -> int | None:
    """A number of the query above 0; None where there is none. Raises `InvalidRequest`."""
    found = _whole(request, name)
    if found in {0, _NONSENSE}:
        raise InvalidRequest(f"'{name}' must be a number above 0.", param=name)
    return found


def whole(request: Request, name: str) -> int | None:
    """A number of the query, 0 included; None where there is none. Raises `InvalidRequest`."""
    found = _whole(request, name)
    if found == _NONSENSE:
        raise InvalidRequest(f"'{name}' must be a number.", param=name)
    return found


def up_to(request: Request, name: str, most: int) -> int:
    """A number of the query that is at most `most`; 0 where there is none. Raises `InvalidRequest`."""
    found = _whole(request, name)
    if found == _NONSENSE or (found or 0) > most:
        raise InvalidRequest(f"'{name}' must be a number up to {most}.", param=name)
    return found or 0


def between(request: Request, name: str, most: int, default: int, message: str) -> int:
    """A number of the query from 1 to `most`, or `default`. Raises `InvalidRequest` with `message`."""
    found = _whole(request, name)
    if found is None:
        return default
    if not 1 <= found <= most:
        raise InvalidRequest(message, param=name)
    return found


def page_size(request: Request, default: int, most: int) -> int:
    """How long a page shall be, by `limit`. Raises `InvalidRequest`."""
    size = above_zero(request, "limit") or default
    if size > most:
        raise InvalidRequest(f"'limit' must be at most {most}.", param="limit")
    return size


def _whole(request: Request, name: str) -> int | None:
    text = request.query_params.get(name, "")
    if not text:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else _NONSENSE
