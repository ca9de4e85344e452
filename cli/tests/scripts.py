"""Streams as the server sends them."""

import json
from typing import Any

from tests.conftest import Answer


def events(*items: Any, comments: str = ": x-cost-credits 0.5000\n: x-credits-remaining 9.5000\n\n") -> Answer:
    lines = "".join(f"data: {json.dumps(item)}\n\n" for item in items)
    return Answer(f"{lines}data: [DONE]\n\n{comments}".encode(), 200, {"x-request-id": "req_9"}, "text/event-stream")


def said(*words: str, **more: Any) -> Answer:
    chunks = [{"choices": [{"delta": {"content": word}}]} for word in words]
    return events(
        *chunks,
        {"choices": [{"delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"total_tokens": 7}},
        **more,
    )
