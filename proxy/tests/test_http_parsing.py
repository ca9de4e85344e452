"""What a connection makes of any bytes in any pieces: the answer that was sent, or an error; never another answer."""

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.gateway.http_connection import MAX_HEAD_BYTES, Connection, HttpAnswer
from proxy.gateway.upstream import Disconnected

LIMIT = MAX_HEAD_BYTES


class Transport:
    """Notes what is done to it."""

    def __init__(self) -> None:
        self.is_aborted = False
        self.is_paused = False

    def write(self, data: bytes) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True

    close = abort

    def pause_reading(self) -> None:
        assert not self.is_paused
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class Talk:
    """One request on one connection; `feed` bytes, `cut` it, and look at what came of it."""

    def __init__(self, *, is_head: bool = False) -> None:
        self.is_free = False
        self.transport: Any = Transport()
        loop: Any = asyncio.BaseEventLoop
        self.connection = Connection((False, "x", 80), loop, on_free=self._freed, on_lost=lambda _: None)
        self.connection.connection_made(self.transport)
        self.answer: HttpAnswer = self.connection.ask(b"", None, length=-1, is_head=is_head)

    def _freed(self, _: Connection) -> None:
        self.is_free = True

    def feed(self, *pieces: bytes) -> "Talk":
        for piece in pieces:
            if not self.transport.is_aborted:
                self.connection.data_received(piece)
        return self

    def cut(self, error: Exception | None = None) -> "Talk":
        self.connection.connection_lost(error)
        return self

    @property
    def body(self) -> bytes:
        return b"".join(self.answer._pieces)

    @property
    def error(self) -> Exception | None:
        return self.answer._error

    @property
    def is_kept(self) -> bool:
        return self.is_free and not self.transport.is_aborted


def split(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


bodies = st.lists(st.binary(min_size=1, max_size=200), max_size=6)
places = st.lists(st.integers(0, 10_000), max_size=20)
interims = st.lists(
    st.sampled_from([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"]), max_size=3
)
names = st.text("abcdefghijklmnopqrstuvwxyzABC-", min_size=1, max_size=12).map(lambda name: f"x-{name}")
values = st.text("abc ;,=\"'\xe9/", max_size=20).map(str.strip)
headers = st.lists(st.tuples(names, values), max_size=6)


def framed(pieces: list[bytes], form: str, more: list[tuple[str, str]]) -> bytes:
    lines = b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in more)
    whole = b"".join(pieces)
    if form == "length":
        return b"HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n%s" % (lines, len(whole), whole)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n%s\r\n%s0\r\n\r\n" % (lines, chunks)


@given(bodies, st.sampled_from(["length", "chunks"]), headers, interims, places)
@settings(deadline=None, max_examples=80)
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(pieces, form, more, before, cuts):
    talk = Talk().feed(*split(b"".join(before) + framed(pieces, form, more), cuts))
    assert talk.answer.is_whole
    assert (talk.answer.status, talk.body, talk.is_kept) == (200, b"".join(pieces), True)
    for name, value in reversed(more):
        first = next(told for given, told in more if given.lower() == name.lower())
        assert talk.answer.headers[name.lower()] == first, value


@given(bodies, st.sampled_from(["length", "chunks"]), places, st.integers(0, 10_000))
@settings(deadline=None, max_examples=80)
def test_a_cut_answer_is_never_whole(pieces, form, cuts, end):
    raw = framed(pieces, form, [])
    kept = raw[: end % len(raw)]
    talk = Talk().feed(*split(kept, cuts)).cut()
    assert not talk.answer.is_whole
    assert isinstance(talk.error, Disconnected)
    assert b"".join(pieces).startswith(talk.body)


@given(bodies, places, st.booleans())
@settings(deadline=None, max_examples=60)
def test_without_a_length_the_end_must_be_a_clean_one(pieces, cuts, is_clean):
    talk = Talk().feed(*split(b"HTTP/1.1 200 OK\r\n\r\n" + b"".join(pieces), cuts))
    talk.cut(None if is_clean else ConnectionResetError())
    assert (talk.answer.is_whole, talk.body) == (is_clean, b"".join(pieces))
    assert not talk.is_free


@given(
    bodies,
    st.sampled_from(["length", "chunks"]),
    st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=3)), min_size=1, max_size=4),
    places,
)
@settings(deadline=None, max_examples=120)
def test_damaged_bytes_raise_nothing_and_keep_no_odd_connection(pieces, form, damages, cuts):
    raw = framed(pieces, form, [("x-a", "b")])
    for place, junk in damages:
        at = place % len(raw)
        raw = raw[:at] + junk + raw[at + len(junk) :]
    talk = Talk().feed(*split(raw, cuts))
    was_kept = talk.is_kept
    talk.cut()
    assert talk.answer.is_whole or isinstance(talk.error, Disconnected)
    assert not was_kept or talk.answer.is_whole


@given(st.binary(max_size=500), places)
@settings(deadline=None, max_examples=80)
def test_any_bytes_raise_nothing(raw, cuts):
    talk = Talk().feed(*split(raw, cuts)).cut()
    assert talk.answer.is_whole or isinstance(talk.error, Disconnected)


@given(bodies, places, st.binary(min_size=1, max_size=40).filter(lambda more: more.strip(b"\r\n")))
@settings(deadline=None, max_examples=60)
def test_what_follows_an_answer_belongs_to_nobody(pieces, cuts, more):
    talk = Talk().feed(*split(framed(pieces, "length", []) + more, cuts))
    assert (talk.answer.is_whole, talk.body) == (True, b"".join(pieces))
    assert not talk.is_kept


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 5\r\ntransfer-encoding: chunked",
        b"transfer-encoding: chunked\r\ncontent-length: 5",
        b"content-length: 5\r\ncontent-length: 5",
        b"content-length: 5\r\ncontent-length: 6",
        b"content-length: 5, 5",
        b"content-length: +5",
        b"content-length: 0x5",
        b"content-length: 5 5",
        b"content-length: 99999999999999999999",
        b"content-length : 5",
        b" content-length: 5",
        b"transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        b"transfer-encoding: identity\r\ntransfer-encoding: chunked",
        b"transfer-encoding: chunked, identity",
        b"transfer-encoding: gzip, chunked",
        b"transfer-encoding: gzip",
        b"transfer-encoding: xchunked",
        b"x: a\rcontent-length: 5",
        b"x: a\ncontent-length: 5",
        b"x: a\0b\r\ncontent-length: 5",
        b"x: a\r\n folded\r\ncontent-length: 5",
        b"x\xff: a\r\ncontent-length: 5",
        b": a\r\ncontent-length: 5",
        b"content-encoding: br\r\ncontent-length: 5",
    ],
)
@pytest.mark.parametrize("is_split", [False, True])
def test_two_ways_to_read_an_answer_are_one_too_many(head, is_split):
    raw = b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    talk = Talk().feed(*([raw[at : at + 1] for at in range(len(raw))] if is_split else [raw]))
    assert isinstance(talk.error, Disconnected)
    assert talk.transport.is_aborted
    assert not talk.answer.status


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\nx: y\n\n",
        b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nhello",
        b"HTTP/1.1 103 Hints\r\ncontent-length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 103 Hints\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 204 OK\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\nhello\n0\n\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello",
    ],
)
def test_what_is_no_answer_is_an_error(raw):
    talk = Talk().feed(raw)
    assert isinstance(talk.error, Disconnected)
    assert talk.transport.is_aborted
    assert not talk.answer.is_whole


@pytest.mark.parametrize(
    ("start", "again"),
    [
        (b"HTTP/1.1 200 OK\r\nx: ", b"y"),
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"),
        (b"HTTP/1.1 200 ", b"K"),
        (b"HTTP/1.1 200 OK\r\nx", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"\r\n"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", b"a"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: ", b"y"),
    ],
    ids=["value", "headers", "reason", "name", "interim", "lines", "extension", "trailers", "trailer"],
)
def test_nothing_but_a_body_may_go_on_for_ever(start, again):
    talk = Talk().feed(start)
    piece = again * (1024 // len(again))
    for _ in range(LIMIT * 2 // len(piece) + 2):
        talk.feed(piece)
    assert isinstance(talk.error, Disconnected)
    assert talk.transport.is_aborted


def test_an_answer_to_head_ends_with_its_headers_and_frees_nothing():
    talk = Talk(is_head=True).feed(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
    assert (talk.answer.is_whole, talk.body, talk.is_kept) == (True, b"", False)


def test_reading_pauses_and_goes_on():
    talk = Talk().feed(b"HTTP/1.1 200 OK\r\ncontent-length: 600000\r\n\r\n", bytes(300_000))
    assert talk.transport.is_paused
    talk.answer._take()
    assert not talk.transport.is_paused
    talk.feed(bytes(300_000))
    assert talk.answer.is_whole
    assert not talk.transport.is_paused
