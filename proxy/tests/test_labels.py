"""What a label of a header says, whoever wrote it."""

import pytest

from proxy.gateway import labels
from proxy.gateway.wire import Request


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (b"alice", "alice"),
        ("Žofie".encode(), "Žofie"),
        ("Zoë".encode("latin-1"), "Zoë"),
        ("Zoë".encode(), "Zoë"),
        (b"\xff\xfe", "ÿþ"),
        ("é".encode() * 300, "é" * labels.MAX_LABEL),
        (None, ""),
    ],
)
def test_a_name_is_the_same_by_header_and_by_body(sent: bytes | None, read: str) -> None:
    """Else a block of Žofie, whom the body names so, lets her in by the header."""
    headers = [] if sent is None else [(b"x-user-id", sent)]
    request = Request({"method": "GET", "path": "/", "headers": headers}, None)  # type: ignore[arg-type]
    assert labels.read(request, labels.END_USER) == read
