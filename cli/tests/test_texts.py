"""Names of files, harmless texts, amounts, sparklines; and streams of events."""

import pytest

from pixie import sse, terminal_images
from pixie.texts import credits, file_stem, harmless, shortened, sparkline


@pytest.mark.parametrize(
    ("prompt", "stem"),
    [
        ("A beautiful sunset", "a-beautiful-sunset"),
        ("Ein Füchslein, im Schnee!", "ein-fuchslein-im-schnee"),
        ("../../etc/passwd", "etc-passwd"),
        ("猫", "image"),
        ("", "image"),
        ("one two three four five six seven eight nine ten eleven", "one-two-three-four-five-six-seven-eight-nine"),
        ("x" * 100, "x" * 48),
    ],
)
def test_files_are_named_by_their_prompt(prompt: str, stem: str) -> None:
    assert file_stem(prompt) == stem


def test_what_steers_a_terminal_is_left_out() -> None:
    assert harmless("a\x1b[31mb\x07\x9b\u202ec\td\n") == "a[31mbc\td\n"
    assert shortened("a\nlong   text", 6) == "a lon…"


@pytest.mark.parametrize(
    ("amount", "shown"),
    [("12.3400", "12.34"), ("0.0000", "0.00"), ("1234.5678", "1,234.5678"), ("-5.0000", "-5.00"), (7, "7.00"),
     ("n/a", "n/a")],
)  # fmt: skip
def test_amounts_for_people(amount: object, shown: str) -> None:
    assert credits(amount) == shown


def test_a_sparkline_shows_nothing_as_nothing() -> None:
    assert sparkline([0, 1, 4, 8]) == " ▁▄█"
    assert sparkline([0, 0]) == "  "
    assert sparkline([0.001, 100]) == "▁█"
    assert sparkline([]) == ""


@pytest.mark.parametrize("cut", range(1, 12))
def test_events_whatever_the_chunks(cut: int) -> None:
    raw = b'event: a\r\ndata: {"x":\r\ndata: 1}\r\n\r\n: x-cost-credits 0.5\n\n'
    raw += b"data: \xe2\x80\xa8\xc3\xa9\rid: 7\r\rdata: lost"
    chunks = [raw[at : at + cut] for at in range(0, len(raw), cut)]
    found = list(sse.events(sse.lines(chunks)))
    assert found == [
        sse.Event("a", '{"x":\n1}'),
        sse.Event(comment="x-cost-credits 0.5"),
        sse.Event("", "\u2028é"),
    ]
    assert sse.parsed(found[0]) == {"x": 1}
    assert sse.parsed(sse.Event("", "[DONE]")) == {}


def test_pictures_in_terminals() -> None:
    png = b"\x89PNG\r\n\x1a\n" + b"x" * 5000
    drawn = terminal_images.escaped(png, "kitty")
    assert drawn.startswith("\x1b_Ga=T,f=100,q=2,c=40,m=1;")
    assert drawn.count("\x1b_G") == 2
    assert "m=0;" in drawn.split("\x1b\\")[1]
    assert terminal_images.escaped(b"\xff\xd8\xff", "kitty") == ""
    assert terminal_images.escaped(b"GIF89a", "iterm").startswith("\x1b]1337;File=inline=1;size=6;")
    assert terminal_images.escaped(png, "") == ""
