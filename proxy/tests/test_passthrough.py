"""Paths that the gateway does not know: who may use them, and what of others' is behind them."""

from dataclasses import replace

import orjson
import pytest

from proxy.tests.kit import KEY, Kit, Script

OWN = replace(KEY, upstream_keys={"up": "sk-own-key"})
PATHS = ("/v1/files", "/v1/batches", "/v1/vector_stores")


def told(**fields) -> Script:
    return Script([orjson.dumps(fields)])


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files",
        "/v1/batches/b_1",
        "/v1/realtime/calls",
        "/v1/videos",
        "/v1/../admin",
        "/v1/files/%2e%2e/x",
        "/v1//x",
        "/v1",
    ],
)
async def test_unknown_paths_are_refused_with_the_shared_key(path):
    kit = Kit(told())
    answer = await kit.call(path, method="GET")
    assert (answer.status, answer.error["code"]) == (404, "unknown_url")
    assert kit.client.requests == []


async def test_what_is_not_listed_is_refused_beside_what_is():
    kit = Kit(told(), passthrough_paths=("/v1/files",))
    for path in ("/v1/filesystem", "/v1/batches"):
        assert (await kit.call(path, method="GET")).status == 404


async def test_with_a_key_of_ones_own_everything_passes_as_it_stands():
    kit = Kit(Script([b"raw", b" bytes"], content_type="application/x-ndjson"), key=OWN)
    answer = await kit.call(
        "/v1/fine_tuning/jobs", {"training_file": "file-of-anybody"}, headers={"openai-beta": "x=1"}
    )
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"raw bytes", "application/x-ndjson")
    url, headers, sent = kit.client.requests[0]
    assert url == "POST http://upstream/v1/fine_tuning/jobs"
    assert (headers["authorization"], headers["openai-beta"]) == ("Bearer sk-own-key", "x=1")
    assert sent == {"training_file": "file-of-anybody"}


async def test_an_errors_status_passes_but_never_a_page():
    kit = Kit(Script([b'{"error":{}}'], status=404), Script([b"<html>"], content_type="text/html"), key=OWN)
    assert (await kit.call("/v1/files/f", method="GET")).status == 404
    page = await kit.call("/v1/files/f", method="GET")
    assert (page.status, page.error["code"]) == (502, "upstream_error")


async def test_a_key_with_scopes_needs_the_one_for_it():
    kit = Kit(told(id="x"), key=replace(OWN, scopes=frozenset({"chat"})))
    assert (await kit.call("/v1/files", method="GET")).status == 403
    kit = Kit(told(id="x"), key=replace(OWN, scopes=frozenset({"passthrough"})))
    assert (await kit.call("/v1/files", method="GET")).status == 200


async def test_an_object_is_reached_by_its_maker_alone():
    kit = Kit(told(id="file-1"), told(id="batch_1"), told(id="file-1", deleted=True), passthrough_paths=PATHS)
    assert (await kit.call("/v1/files", {"purpose": "batch"})).status == 200
    kit.keyring.key = replace(KEY, organization_id=4)
    for method, path in (
        ("GET", "/v1/files/file-1"),
        ("GET", "/v1/files/file-1/content"),
        ("DELETE", "/v1/files/file-1"),
    ):
        refused = await kit.call(path, method=method)
        assert (refused.status, refused.error["code"]) == (404, "not_found")
    before = len(kit.client.requests)
    for body in ({"input_file_id": "file-1"}, {"file_ids": ["file-1"]}, {"a": [{"b": {"file_id": "file-1"}}]}):
        assert (await kit.call("/v1/batches", body)).status == 404
    assert len(kit.client.requests) == before
    kit.keyring.key = KEY
    assert (await kit.call("/v1/batches", {"input_file_id": "file-1"})).status == 200
    assert (await kit.call("/v1/files/file-1", method="DELETE")).status == 200
    assert (await kit.call("/v1/files/file-1", method="GET")).status == 404


async def test_lists_leave_out_what_is_others():
    kit = Kit(
        told(id="file-1"),
        told(
            object="list",
            data=[{"id": "file-0"}, {"id": "file-1"}, {"id": "file-2"}],
            first_id="file-0",
            last_id="file-2",
        ),
        passthrough_paths=PATHS,
    )
    await kit.call("/v1/files", {"purpose": "x"})
    listed = (await kit.call("/v1/files", method="GET")).json()
    assert listed == {"object": "list", "data": [{"id": "file-1"}], "first_id": "file-1", "last_id": "file-1"}


async def test_contents_of_ones_own_file_stream():
    kit = Kit(told(id="file-1"), Script([b"a", b"b"], content_type="application/octet-stream"), passthrough_paths=PATHS)
    await kit.call("/v1/files", {"purpose": "x"})
    assert (await kit.call("/v1/files/file-1/content", method="GET")).body == b"ab"


async def test_without_a_credential_nothing_is_told():
    assert (await Kit(told()).call("/v1/files", method="GET", secret=None)).status == 401


async def test_background_needs_a_key_of_ones_own():
    body = {"model": "m", "input": "hello", "background": True}
    queued = told(id="resp_1", object="response", status="queued", usage=None, output=[])
    refused = await Kit(queued).call("/v1/responses", body)
    assert (refused.status, refused.error["param"]) == (400, "background")
    kit = Kit(queued, key=OWN)
    assert (await kit.call("/v1/responses", body)).status == 200
    assert kit.teller.captures[0].cost == 0


OTHERS = {"input_file_id": "file-others"}
LIKE_AN_ID = "file-AbCdEf0123456789AbCdEf"


def form(*fields: tuple[str, str]) -> bytes:
    parts = [f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields]
    return "".join([*parts, "--b--\r\n"]).encode()


@pytest.mark.parametrize(
    ("media_type", "body", "status"),
    [
        ("Application/JSON", orjson.dumps(OTHERS), 404),
        ("application/json; charset=utf-8", orjson.dumps(OTHERS), 404),
        ("text/plain", orjson.dumps(OTHERS), 415),
        ("application/json-patch+json", orjson.dumps(OTHERS), 415),
        ("", orjson.dumps(OTHERS), 415),
        ("application/x-www-form-urlencoded", b"input_file_id=file-others", 415),
        ("multipart/form-data; boundary=b", form(("input_file_id", "file-others")), 404),
        ("MULTIPART/form-data; boundary=b", form(("file_ids[]", "file-others")), 404),
        ("multipart/form-data; boundary=b", form(("tool[0][file_id]", "file-others")), 404),
        ("application/json", b'{"Input_File_Id": "file-others"}', 404),
        ("application/json", orjson.dumps({"training_file": LIKE_AN_ID}), 404),
        ("application/json", orjson.dumps({"files": [LIKE_AN_ID]}), 404),
    ],
)
async def test_no_spelling_of_a_body_names_an_object_of_others(media_type, body, status):
    kit = Kit(told(id="batch_1"), passthrough_paths=PATHS)
    refused = await kit.call("/v1/batches", body, headers={"content-type": media_type})
    assert (refused.status, kit.client.requests) == (status, [])


async def test_what_was_checked_is_what_is_sent():
    """A provider that takes the first of two equal names, or another boundary, would read what nobody has checked."""
    kit = Kit(told(id="file-1"), told(id="batch_1"), told(id="file-2"), passthrough_paths=PATHS)
    await kit.call("/v1/files", {"purpose": "batch", "metadata": {"note": LIKE_AN_ID}})
    twice = b'{"input_file_id": "file-others", "input_file_id": "file-1"}'
    assert (await kit.call("/v1/batches", twice)).status == 200
    assert kit.client.requests[-1][2] == {"input_file_id": "file-1"}
    sent = form(("purpose", "batch"))
    assert (
        await kit.call("/v1/files", sent, headers={"content-type": "multipart/form-data; boundary=b"})
    ).status == 200
    _, headers, body = kit.client.requests[-1]
    assert headers["content-type"].startswith("multipart/form-data; boundary=tuppence-")
    assert int(headers["content-length"]) == len(body)
    assert b"\r\n\r\nbatch\r\n" in body
