import itertools

import pytest

from proxy.gateway import sse


def blocks(*chunks: bytes) -> list[bytes]:
    splitter = sse.Splitter()
    out = [splitter.feed(chunk) for chunk in chunks]
    return [*out, splitter.flush()]


@pytest.mark.parametrize("ending", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_every_cut_of_a_stream_gives_the_same_events(ending):
    line = ending[: len(ending) // 2]
    stream = b"".join(
        [b"data: one", ending, b": a comment", ending, b"event: x", line, b"data: \xc3\xa9", line, b"data:two", ending]
    )
    for cut in range(len(stream) + 1):
        events = [
            frame.data for block in blocks(stream[:cut], stream[cut:]) for frame in sse.frames(block) if block.strip()
        ]
        assert [data for data in events if data is not None] == [b"one", "é\ntwo".encode()], cut


def test_the_bytes_of_all_blocks_are_the_bytes_of_the_stream():
    stream = b"data: 1\r\n\r\ndata: 2\n\n: c\n\ndata: 3\r\rdata: unfinished"
    for first, second in itertools.combinations(range(len(stream)), 2):
        assert b"".join(blocks(stream[:first], stream[first:second], stream[second:])) == stream


def test_an_unfinished_event_waits():
    splitter = sse.Splitter()
    assert splitter.feed(b"data: a\n") == b""
    assert splitter.feed(b"\ndata: b") == b"data: a\n\n"
    assert splitter.flush() == b"data: b"
    assert splitter.flush() == b""


def test_an_endless_line_is_refused():
    splitter = sse.Splitter()
    for _ in range(8):
        splitter.feed(b"x" * 1024 * 1024)
    with pytest.raises(sse.FrameTooLarge):
        splitter.feed(b"x")


def test_frames_keep_their_bytes():
    block = b": hi\ndata: 1\n\nevent: e\r\ndata: 2\r\n\r\n"
    assert list(sse.frames(block)) == [
        sse.Frame(b": hi\ndata: 1\n\n", b"1"),
        sse.Frame(b"event: e\r\ndata: 2\r\n\r\n", b"2"),
    ]
