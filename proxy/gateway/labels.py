"""Labels in headers: who a request is for, the run that it belongs to, and the client's own label for it."""

from contextlib import suppress

from proxy.gateway.wire import Request

MAX_LABEL = 256
END_USER, RUN, ORGANIZATION = "x-user-id", "x-run-id", "x-org-id"


def read(request: Request, name: str) -> str:
    """The label as its sender wrote it; "" if there is none.

    A header is read as ISO 8859-1, but whoever has more to say sends UTF-8 (RFC 9110, section 5.5): an end user is the
    same by header, body and page, so that a block of theirs binds however they are named.
    """
    value = request.headers.get(name, "")
    if not value.isascii():
        with suppress(UnicodeError):
            value = value.encode("latin-1").decode()
    return value[:MAX_LABEL]
