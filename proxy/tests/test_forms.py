"""Multipart forms as they arrive: whole, in pieces, odd and hostile."""

import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.gateway import forms
from proxy.gateway.errors import InvalidRequest, RequestTooLarge, UnsupportedMediaType
from proxy.gateway.forms import FilePart, Form, Upload

TYPE = 'multipart/form-data; boundary="edge"'


def part(name: str, value: bytes, extra: str = "") -> bytes:
    return f'--edge\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + value + b"\r\n"


def file(name: str, value: bytes, filename: str = "a.bin") -> bytes:
    return part(name, value, f'; filename="{filename}"\r\nContent-Type: audio/wav')


OPENED: list[Form] = []
END = b"--edge--\r\n"
BODY = part("model", b"m") + file("file", b"\x00\r\n--edg\xff" * 100) + part("n", b"2") + END


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]


async def read(body: bytes, size: int = 10_000, *, limit: int = 10**6, content_type: str = TYPE) -> Form:
    form = await forms.parse(content_type, pieces(body, size), limit=limit)
    OPENED.append(form)
    return form


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


async def joined(upload: Upload) -> bytes:
    return b"".join([piece async for piece in upload])


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
async def test_no_cut_matters(size):
    form = await read(BODY, size)
    assert form.texts() == {"model": "m", "n": "2"}
    (found,) = form.files("file")
    assert (found.filename, found.content_type) == ("a.bin", "audio/wav")
    assert await form.read(found, 0, 10**6) == b"\x00\r\n--edg\xff" * 100
    assert await form.read(found, 5, 3) == (b"\x00\r\n--edg\xff" * 100)[5:8]


async def test_the_digest_is_of_the_content_not_of_the_boundary():
    other = await read(BODY.replace(b"edge", b"b2"), 99, content_type="multipart/form-data; boundary=b2")
    assert (await read(BODY)).digest == other.digest
    assert (await read(BODY.replace(b'"n"', b'"k"'))).digest != other.digest
    assert (await read(BODY.replace(b"\r\n2\r\n", b"\r\n3\r\n"))).digest != other.digest


async def test_what_goes_upstream_reads_as_what_came_but_for_what_is_replaced():
    form = await read(BODY)
    upload = Upload(form, {"model": "real", "n": None, "stream": "true"})
    sent = await joined(upload)
    assert len(sent) == upload.length
    again = await read(sent, 50, content_type=upload.content_type)
    assert again.texts() == {"model": "real", "stream": "true"}
    assert await again.read(again.files("file")[0], 0, 10**6) == b"\x00\r\n--edg\xff" * 100
    assert await joined(upload) == sent  # for the next provider


async def test_names_cannot_break_out_of_their_header():
    form = Form((await read(BODY)).spool, [('x"\r\nEvil: 1', "v"), ("f", FilePart("f", 'a"\r\nb', "text/plain", 0, 1))])
    sent = await joined(Upload(form, {}))
    assert b"\r\nEvil" not in sent
    assert b'name="x%22%0D%0AEvil: 1"' in sent


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_multipart"),
        (BODY[:-4], "invalid_multipart"),
        (BODY[:200], "invalid_multipart"),
        (b"no form at all", "invalid_multipart"),
        (b"--edge\r\nX: y\r\n\r\nv\r\n" + END, "invalid_multipart"),
        (part("a", b"v") * 200 + END, "invalid_multipart"),
        (part("a", b"\xff\xfe") + END, "invalid_value"),
        (part("a", b"v" * 70_000) + END, "invalid_value"),
    ],
)
async def test_odd_forms_are_refused(body, code):
    with pytest.raises(InvalidRequest) as refused:
        await read(body)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "multipart/form-data", "multipart/mixed; boundary=edge"]
)
async def test_other_types_are_refused(content_type):
    with pytest.raises(UnsupportedMediaType):
        await read(BODY, content_type=content_type)


async def test_a_form_above_the_limit_is_refused():
    with pytest.raises(RequestTooLarge):
        await read(BODY, limit=500)


async def test_a_field_given_twice_is_refused_but_an_array_is_not():
    with pytest.raises(InvalidRequest, match="twice"):
        (await read(part("model", b"a") + part("model", b"b") + END)).texts()
    twice = await read(part("include[]", b"a") + part("include[]", b"b") + END)
    assert twice.texts() == {"include[]": "b"}
    sent = await joined(Upload(twice, {"model": "m"}))
    assert sent.count(b"include[]") == 2


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.integers(1, 50))
async def test_any_bytes_are_a_form_or_a_refusal(noise, size):
    with contextlib.suppress(InvalidRequest):
        (await read(b"--edge\r\n" + noise, size)).close()
