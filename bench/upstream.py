"""The benchmark's upstream: an OpenAI-shaped server with as little of its own cost as Python allows.

A JSON call is answered with one chat completion of about 600 bytes; a call with `"stream":true` with 64 chunks and
their usage, all at once (a burst), or one each 5 ms or 150 ms where the body holds `"user":"paced"` or `"user":"slow"`.
Responses, embeddings and transcriptions are answered whole; the recording is thrown away.
"""

import argparse
import asyncio
from typing import Any, cast

import httptools
import uvloop

CHUNKS = 64
PACES_S = {b'"user":"paced"': 0.005, b'"user":"slow"': 0.15}
HOST = "127.0.0.1"


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(content: str) -> bytes:
    return _http_chunk(
        b'data: {"id":"chatcmpl-bench0000000000000000001","object":"chat.completion.chunk","created":1795200000,'
        b'"model":"bench-upstream","system_fingerprint":"fp_bench","choices":[{"index":0,"delta":{"content":"%s"},'
        b'"logprobs":null,"finish_reason":null}]}\n\n' % content.encode()
    )


ANSWER = (
    b'{"id":"chatcmpl-bench0000000000000000001","object":"chat.completion","created":1795200000,"model":"bench-upstream",'
    b'"system_fingerprint":"fp_bench","service_tier":"default","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"A penny saved is a penny earned, and two of them are tuppence.","refusal":null},"logprobs":null,'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":16,"total_tokens":35,'
    b'"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,'
    b'"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}'
)
JSON_RESPONSE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)
) + ANSWER


def _whole(answer: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer) + answer


RESPONSE = _whole(
    b'{"id":"resp_bench0000000000000000001","object":"response","created_at":1795200000,"status":"completed",'
    b'"model":"bench-upstream","store":false,"output":[{"id":"msg_1","type":"message","role":"assistant",'
    b'"status":"completed","content":[{"type":"output_text","text":"A penny saved is a penny earned, and two of them '
    b'are tuppence.","annotations":[]}]}],"usage":{"input_tokens":19,"input_tokens_details":{"cached_tokens":0},'
    b'"output_tokens":16,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":35}}'
)
EMBEDDING = _whole(
    b'{"object":"list","model":"bench-upstream","data":[{"object":"embedding","index":0,"embedding":[%s]}],'
    b'"usage":{"prompt_tokens":6,"total_tokens":6}}' % b",".join([b"0.0123456"] * 256)
)
TRANSCRIPTION = _whole(b'{"text":"A penny saved.","usage":{"type":"duration","seconds":12}}')
WHOLE_BY_PATH = {b"/v1/responses": RESPONSE, b"/v1/embeddings": EMBEDDING, b"/v1/audio/transcriptions": TRANSCRIPTION}
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = [_event(f"word {number} ") for number in range(CHUNKS)]
USAGE = _http_chunk(
    b'data: {"id":"chatcmpl-bench0000000000000000001","object":"chat.completion.chunk","created":1795200000,'
    b'"model":"bench-upstream","system_fingerprint":"fp_bench","choices":[],'
    b'"usage":{"prompt_tokens":19,"completion_tokens":64,"total_tokens":83}}\n\n'
)
END = _http_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
BURST_RESPONSE = STREAM_HEAD + b"".join(EVENTS) + USAGE + END


class Upstream(asyncio.Protocol):
    """One connection; requests come one after the other."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.parser: Any = httptools.HttpRequestParser(self)
        self.body, self.path = b"", b""

    def on_url(self, url: bytes) -> None:
        self.path = url

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        if self.path not in WHOLE_BY_PATH:
            self.body += body

    def on_message_complete(self) -> None:
        body, self.body = self.body, b""
        if self.path in WHOLE_BY_PATH:
            self.transport.write(WHOLE_BY_PATH[self.path])
            return
        if b'"stream":true' not in body:
            self.transport.write(JSON_RESPONSE)
            return
        for mark, pace_s in PACES_S.items():
            if mark in body:
                self.transport.write(STREAM_HEAD)
                self.pace(0, pace_s)
                return
        self.transport.write(BURST_RESPONSE)

    def pace(self, sent: int, pace_s: float) -> None:
        if self.transport.is_closing():
            return
        if sent < CHUNKS:
            self.transport.write(EVENTS[sent])
            asyncio.get_running_loop().call_later(pace_s, self.pace, sent + 1, pace_s)
        else:
            self.transport.write(USAGE + END)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, HOST, port, backlog=2048)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, required=True)
    uvloop.run(serve(options.parse_args().port))
