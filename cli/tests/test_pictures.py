"""`pixie generate` and `pixie edit`."""

import base64
import re

from tests.conftest import Answer, Pixie, Server
from tests.scripts import events

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
B64 = base64.b64encode(PNG).decode()
COST = {"x-cost-credits": "1.0880", "x-credits-remaining": "98.9120", "x-request-id": "req_1"}
GENERATE, EDIT = "/v1/images/generations", "/v1/images/edits"


def test_pictures_become_files_and_their_cost_is_told(pixie: Pixie, server: Server) -> None:
    server.on(
        "POST",
        GENERATE,
        Answer({"data": [{"b64_json": B64}, {"b64_json": B64}], "usage": {"total_tokens": 3}}, headers=COST),
    )
    done = pixie("generate", "A fox!", "-n", "2", "--quality", "low", "--size", "1024x1024", "-o", "a/b")
    assert done.code == 0, done.err
    assert done.out == "a/b/a-fox-1.png\na/b/a-fox-2.png\n"
    assert "1.088 credits (2 pictures) · 98.912 left · req_1" in done.err
    assert (pixie.home / "a/b/a-fox-2.png").read_bytes() == PNG
    (asked,) = server.asked
    assert asked.json == {"prompt": "A fox!", "quality": "low", "size": "1024x1024", "n": 2}
    assert re.fullmatch(r"pixie-[0-9a-f]{32}", asked.headers["idempotency-key"])
    told = pixie("generate", "A fox!", "-o", "a/b", "--json").json
    assert [one["path"] for one in told["images"]] == ["a/b/a-fox-3.png", "a/b/a-fox-4.png"]  # nothing is overwritten
    assert (told["cost_credits"], told["credits_remaining"], told["request_id"]) == ("1.0880", "98.9120", "req_1")


def test_a_picture_that_is_tried_again_is_the_same_request(pixie: Pixie, server: Server) -> None:
    away = Answer({"error": {"message": "x", "code": "service_unavailable"}}, 503, {"retry-after-ms": "1"})
    server.on("POST", GENERATE, away, Answer(is_dropped=True), Answer({"data": [{"b64_json": B64}]}))
    assert pixie("generate", "x").code == 0
    assert len({(one.headers["idempotency-key"], one.body) for one in server.asked}) == 1
    assert len(server.asked) == 3


def test_options_of_a_picture(pixie: Pixie, server: Server) -> None:
    server.on("POST", GENERATE, Answer({"data": [{"b64_json": B64}]}))
    pixie("generate", "-", "--visibility", "public", "--max-credits", "5", stdin="from stdin\n", PIXIE_IMAGE_MODEL="m")
    assert server.asked[0].json == {"prompt": "from stdin", "model": "m", "n": 1}
    assert server.asked[0].headers["x-gallery-visibility"] == "public"
    assert server.asked[0].headers["x-max-credits"] == "5"
    assert pixie("generate", "x", "--visibility", "all").code == 2
    assert pixie("generate", " ").code == 2


def test_a_directory_that_cannot_be_written_costs_nothing(pixie: Pixie, server: Server) -> None:
    (pixie.home / "taken").write_text("")
    done = pixie("generate", "x", "-o", "taken")
    assert (done.code, server.asked) == (2, [])
    assert "-o" in done.err


def test_pictures_that_come_as_addresses_are_fetched_without_the_key(pixie: Pixie, server: Server) -> None:
    server.on("POST", GENERATE, Answer({"data": [{"url": f"{server.url}/p.png"}]}))
    server.on("GET", "/p.png", Answer(PNG, content_type="image/png"))
    assert pixie("generate", "x").out == "x-1.png\n"
    assert "authorization" not in server.asked[-1].headers
    server.on("POST", GENERATE, Answer({"data": [{"url": "file:///etc/passwd"}]}))
    assert pixie("generate", "x").code == 1
    server.on("POST", GENERATE, Answer({"data": []}))
    assert "no picture" in pixie("generate", "x").err


def test_unfinished_pictures_are_drawn_where_they_can_be(pixie: Pixie, server: Server) -> None:
    partial = {"type": "image_generation.partial_image", "b64_json": B64, "partial_image_index": 0}
    whole = {"type": "image_generation.completed", "b64_json": B64, "usage": {"total_tokens": 3}}
    server.on("POST", GENERATE, events(partial, whole))
    done = pixie("generate", "x", "--preview", "1", PIXIE_PREVIEW="kitty")
    assert done.out == "x-1.png\n"
    assert server.asked[0].json == {"prompt": "x", "n": 1, "stream": True, "partial_images": 1}
    assert done.err.count(f"\x1b_Ga=T,f=100,q=2,c=40,m=0;{B64}\x1b\\") == 1
    assert "0.50 credits · 9.50 left · req_9" in done.err
    assert "\x1b]1337;File=inline=1" in pixie("generate", "x", "--preview", "1", PIXIE_PREVIEW="iterm").err
    server.on("POST", GENERATE, Answer({"data": [{"b64_json": B64}]}))
    assert "shows no pictures" in pixie("generate", "x", "--preview", "1").err
    assert server.asked[-1].json == {"prompt": "x", "n": 1}


def test_a_stream_that_fails_is_an_error(pixie: Pixie, server: Server) -> None:
    server.on("POST", GENERATE, events({"error": {"message": "broke off", "code": "upstream_error"}}))
    done = pixie("generate", "x", "--preview", "1", PIXIE_PREVIEW="kitty")
    assert (done.code, "broke off" in done.err) == (8, True)


def test_a_picture_is_changed(pixie: Pixie, server: Server) -> None:
    (pixie.home / "in.png").write_bytes(PNG)
    (pixie.home / "two.jpg").write_bytes(b"\xff\xd8\xff")
    server.on(
        "POST",
        EDIT,
        Answer({"error": {"message": "x"}}, 500, {"retry-after-ms": "1"}),
        Answer({"data": [{"b64_json": B64}]}, headers=COST),
    )
    done = pixie("edit", "in.png", "a rainbow", "--mask", "in.png", "--quality", "high")
    assert done.out == "a-rainbow-1.png\n", done.err
    first, second = server.asked
    assert first.body == second.body
    assert first.headers["content-type"] == second.headers["content-type"]
    for part in (
        b'name="image"; filename="in.png"',
        b'name="mask"',
        b'name="prompt"\r\n\r\na rainbow',
        b"image/png",
        PNG,
    ):
        assert part in first.body
    pixie("edit", "in.png", "x", "--image", "two.jpg")
    assert server.asked[-1].body.count(b'name="image[]"') == 2
    assert pixie("edit", "none.png", "x").code == 2
    (pixie.home / "text.png").write_text("hello")
    assert "no PNG" in pixie("edit", "text.png", "x").err
