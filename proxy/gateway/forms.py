"""Multipart forms (RFC 7578), read as they arrive: fields into memory with a limit, files into a temporary file.

The spool lets an upload be sent again to the next provider, and keeps 200 MB out of memory.
"""

import asyncio
import hashlib
import secrets
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from proxy.gateway.errors import InvalidRequest, RequestTooLarge, UnsupportedMediaType

# Files up to this stay in memory; larger ones go to the disk.
SPOOL_BYTES = 1024 * 1024
MAX_FIELD_BYTES = 64 * 1024
MAX_FIELDS_BYTES = 256 * 1024
MAX_PARTS = 128
CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file of the form: where its bytes lie in the spool."""

    name: str
    filename: str
    content_type: str
    offset: int
    size: int


@dataclass(slots=True)
class Form:
    """A parsed form. `parts` are (name, text or file) in their order; `digest` names its content, not its boundary."""

    spool: IO[bytes]
    parts: list[tuple[str, str | FilePart]] = field(default_factory=list)
    digest: bytes = b""

    def texts(self) -> dict[str, str]:
        """The text fields. Raises `InvalidRequest` for a field that is given twice, but for arrays (`name[]`)."""
        found: dict[str, str] = {}
        for name, value in self.parts:
            if isinstance(value, str):
                if name in found and not name.endswith("[]"):
                    raise InvalidRequest(f"'{name}' is given twice.", param=name)
                found[name] = value
        return found

    def files(self, *names: str) -> list[FilePart]:
        """The files of these field names."""
        return [value for name, value in self.parts if isinstance(value, FilePart) and name in names]

    async def read(self, part: FilePart, offset: int, size: int) -> bytes:
        """At most `size` bytes of a file from `offset` on."""

        def read() -> bytes:
            self.spool.seek(part.offset + offset)
            return self.spool.read(max(0, min(size, part.size - offset)))

        return await asyncio.to_thread(read)

    def close(self) -> None:
        """Give the spool back. May be called twice."""
        self.spool.close()


class Upload:
    """A form as it goes upstream: with other values for some fields, and a boundary of our own."""

    def __init__(self, form: Form, replaced: Mapping[str, str | None]) -> None:
        """`replaced` sets fields, adds those that are not there, and leaves out those that are None."""
        boundary = f"tuppence-{secrets.token_hex(16)}"
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._form = form
        self._pieces: list[bytes | FilePart] = []
        given = set()
        for name, value in form.parts:
            text = replaced.get(name)
            if name in replaced and (name in given or text is None):
                continue
            given.add(name)
            self._add(boundary, name, value if text is None else text)
        for name, text in replaced.items():
            if name not in given and text is not None:
                self._add(boundary, name, text)
        self._pieces.append(f"--{boundary}--\r\n".encode())
        self.length = sum(len(piece) if isinstance(piece, bytes) else piece.size for piece in self._pieces)

    def _add(self, boundary: str, name: str, value: str | FilePart) -> None:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"'
        if isinstance(value, str):
            self._pieces.append(f"{head}\r\n\r\n{value}\r\n".encode())
            return
        head += f'; filename="{_quoted(value.filename)}"\r\nContent-Type: {value.content_type}\r\n\r\n'
        self._pieces += [head.encode(), value, b"\r\n"]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body from its beginning; may be asked for again."""
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            for offset in range(0, piece.size, CHUNK_BYTES):
                yield await self._form.read(piece, offset, CHUNK_BYTES)


async def parse(content_type: str, chunks: AsyncIterable[bytes], *, limit: int) -> Form:
    """The form that `chunks` make up. Raises `UnsupportedMediaType`, `InvalidRequest` or `RequestTooLarge`."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise UnsupportedMediaType("multipart/form-data")
    form = Form(tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES))  # noqa: SIM115 - closed by the form's owner
    try:
        reader = _Reader(form)
        parser = MultipartParser(boundary, reader.callbacks())
        total = 0
        async for chunk in chunks:
            total += len(chunk)
            if total > limit:
                raise RequestTooLarge(limit)
            if total > SPOOL_BYTES:
                await asyncio.to_thread(parser.write, chunk)
            else:
                parser.write(chunk)
        parser.finalize()
        if not reader.is_over:
            raise InvalidRequest("The form breaks off before its closing boundary.", code="invalid_multipart")
    except MultipartParseError as error:
        form.close()
        raise InvalidRequest(f"The form cannot be read: {error}"[:200], code="invalid_multipart") from None
    except BaseException:
        form.close()
        raise
    form.digest = reader.digest()
    return form


class _Reader:
    """Collects the parts as the parser tells of them."""

    def __init__(self, form: Form) -> None:
        self.is_over = False
        self._form = form
        self._hash = hashlib.sha256()
        self._field, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._text: bytearray | None = None
        self._text_bytes = 0
        self._name = self._filename = self._type = ""
        self._offset = self._size = 0

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def digest(self) -> bytes:
        return self._hash.digest()

    def _begin(self) -> None:
        if len(self._form.parts) >= MAX_PARTS:
            raise InvalidRequest(f"The form has more than {MAX_PARTS} parts.", code="invalid_multipart")
        self._headers.clear()

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _on_headers(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if kind != b"form-data" or b"name" not in options:
            raise InvalidRequest("A part of the form has no name.", code="invalid_multipart")
        self._name = options[b"name"].decode("utf-8", "replace")
        self._hash.update(b"\0part\0" + options[b"name"])
        if b"filename" not in options:
            self._text = bytearray()
            return
        self._text = None
        self._filename = options[b"filename"].decode("utf-8", "replace")
        self._type = self._headers.get(b"content-type", b"application/octet-stream").decode("latin-1")
        if "\r" in self._type or "\n" in self._type:
            raise InvalidRequest("A part of the form has no valid type.", code="invalid_multipart")
        self._hash.update(b"\0file\0" + options[b"filename"])
        self._offset, self._size = self._form.spool.tell(), 0

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        self._hash.update(piece)
        if self._text is None:
            self._form.spool.write(piece)
            self._size += len(piece)
            return
        self._text += piece
        self._text_bytes += len(piece)
        if len(self._text) > MAX_FIELD_BYTES or self._text_bytes > MAX_FIELDS_BYTES:
            raise InvalidRequest(
                f"'{self._name[:60]}' is longer than a field may be; was it meant as a file?", param=self._name[:60]
            )

    def _on_part_end(self) -> None:
        value: str | FilePart
        if self._text is None:
            value = FilePart(self._name, self._filename, self._type, self._offset, self._size)
        else:
            try:
                value = self._text.decode()
            except UnicodeDecodeError:
                raise InvalidRequest(f"'{self._name[:60]}' is not UTF-8.", param=self._name[:60]) from None
        self._form.parts.append((self._name, value))

    def _on_end(self) -> None:
        self.is_over = True


def _quoted(text: str) -> str:
    """As browsers write names and file names (HTML, "Multipart form data")."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def typed(form: Form, *, integers: tuple[str, ...] = (), booleans: tuple[str, ...] = ()) -> dict[str, Any]:
    """The text fields with these read as numbers and booleans, so that a form reads as a JSON body does."""
    body: dict[str, Any] = dict(form.texts())
    for name in integers:
        text = body.get(name)
        if text is not None and text.isascii() and text.isdigit() and len(text) < 10:
            body[name] = int(text)
    for name in booleans:
        if body.get(name) in ("true", "false", "True", "False", "1", "0"):
            body[name] = body[name] in ("true", "True", "1")
    return body
