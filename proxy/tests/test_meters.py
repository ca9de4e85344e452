import orjson
import pytest

from proxy.gateway.meters import StreamMeter


def event(**fields) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"


def delta(text: str, *, index: int = 0, finish: str | None = None, **fields) -> bytes:
    return event(choices=[{"index": index, "delta": {"content": text}, "finish_reason": finish}], **fields)


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
DONE = b"data: [DONE]\n\n"


def relay(stream: bytes, *, hides_usage: bool, cut: int | None = None) -> tuple[bytes, StreamMeter]:
    meter = StreamMeter(hides_usage=hides_usage)
    pieces = [stream] if cut is None else [stream[:cut], stream[cut:]]
    return b"".join(meter.feed(piece) for piece in pieces) + meter.flush(), meter


def test_a_client_that_asked_for_usage_gets_every_byte_but_the_end():
    stream = delta("Hel", usage=None) + delta("lo", finish="stop") + event(choices=[], usage=USAGE)
    for cut in range(len(stream)):
        out, meter = relay(stream + DONE, hides_usage=False, cut=cut)
        assert out == stream
        assert meter.usage == USAGE
        assert meter.is_done


def test_a_client_that_did_not_ask_never_sees_usage():
    visible = delta("Hel") + delta("lo", finish="stop")
    stream = visible.replace(b"}\n\n", b',"usage":null}\n\n') + event(choices=[], usage=USAGE) + DONE
    for cut in range(len(stream)):
        out, meter = relay(stream, hides_usage=True, cut=cut)
        assert out == visible, cut
        assert meter.usage == USAGE


def test_usage_on_a_content_chunk_is_taken_out_and_the_content_stays():
    out, meter = relay(delta("a") + delta("b", finish="stop", usage=USAGE) + DONE, hides_usage=True)
    assert b"usage" not in out
    assert b'"content":"b"' in out
    assert meter.usage == USAGE


def test_of_several_usages_the_last_counts():
    last = USAGE | {"completion_tokens": 9}
    _, meter = relay(delta("a", usage=USAGE) + event(choices=[], usage=last) + DONE, hides_usage=True)
    assert meter.usage == last


def test_azures_first_chunk_with_filter_results_stays():
    first = event(choices=[], prompt_filter_results=[{"index": 0}])
    out, _ = relay(first + delta("a", finish="stop") + DONE, hides_usage=True)
    assert out.startswith(first)


def test_the_word_usage_in_the_text_changes_nothing():
    stream = delta('say "usage":null, please') + delta("[DONE] is not the end", finish="stop")
    out, meter = relay(stream + DONE, hides_usage=True)
    assert out == stream
    assert meter.usage is None
    assert meter.is_done


@pytest.mark.parametrize("tail", [DONE, DONE + DONE, DONE + delta("late")])
def test_nothing_follows_the_end(tail):
    out, meter = relay(delta("a", finish="stop") + tail, hides_usage=True)
    assert out == delta("a", finish="stop")
    assert meter.is_whole


def test_a_stream_without_done_is_whole_only_if_every_choice_finished():
    assert relay(delta("a", finish="stop"), hides_usage=True)[1].is_whole
    assert not relay(delta("a"), hides_usage=True)[1].is_whole
    assert not relay(delta("a", finish="stop") + delta("b", index=1), hides_usage=True)[1].is_whole
    assert not relay(b": nothing\n\n", hides_usage=True)[1].is_whole


def test_an_error_event_is_kept_from_the_client():
    out, meter = relay(delta("a") + event(error={"message": "sk-secret at 10.0.0.1"}), hides_usage=True)
    assert out == delta("a")
    assert meter.error == {"message": "sk-secret at 10.0.0.1"}
    assert not meter.is_whole


def test_output_is_counted_once_however_often_it_is_asked_for():
    meter = StreamMeter(hides_usage=True)
    meter.feed(delta("hello world"))
    assert meter.output_tokens("gpt-4o") == 2
    assert meter.output_tokens("gpt-4o") == 2
    meter.feed(delta("hello world"))
    assert meter.output_tokens("gpt-4o") == 4


def test_what_is_no_json_passes():
    out, meter = relay(b"data: {broken\n\ndata: \xff\xfe\n\n" + DONE, hides_usage=True)
    assert out == b"data: {broken\n\ndata: \xff\xfe\n\n"
    assert meter.is_done
