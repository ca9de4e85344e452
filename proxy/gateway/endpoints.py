"""The metered endpoints: what each reads of a body, what it may cost at most, and what goes upstream."""

from collections.abc import Mapping

import orjson

from proxy.gateway import responses, texts, words
from proxy.gateway.jobs import DEFAULT_OUTPUT_TOKENS, Endpoint, Job
from proxy.gateway.snapshots import Deployment

__all__ = ["DEFAULT_OUTPUT_TOKENS", "ENDPOINTS", "Endpoint", "Job", "upstream_body"]

ENDPOINTS: Mapping[str, Endpoint] = {
    endpoint.path: endpoint
    for endpoint in (
        Endpoint("/v1/chat/completions", "chat", texts.chat, asks_usage=True, text_of=words.of_choices),
        Endpoint("/v1/completions", "completions", texts.completions, asks_usage=True, text_of=words.of_choices),
        Endpoint(
            "/v1/embeddings",
            "embeddings",
            texts.embeddings,
            makes_output=False,
            rewrite_answer=texts.rewrite_embeddings,
        ),
        Endpoint("/v1/moderations", "moderations", texts.moderations, makes_output=False),
        Endpoint(
            "/v1/responses",
            "responses",
            responses.parse,
            text_of=words.of_output,
            bound=responses.bound,
            delivered=responses.delivered,
            charge=responses.charge,
            meter=responses.meter,
            rewrite_answer=responses.rewrite,
            keeps="response",
        ),
    )
}


def upstream_body(endpoint: Endpoint, job: Job, deployment: Deployment, *, output_cap: int | None) -> bytes:
    """The JSON body for `deployment`: its own model name, usage asked for on streams, the output capped if need be."""
    body = dict(job.body)
    body["model"] = deployment.upstream_name
    if job.is_stream and endpoint.asks_usage:
        options = body.get("stream_options")
        body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    if output_cap is not None:
        name = job.output_limit_field
        if name == "max_completion_tokens" and deployment.kind not in {"openai", "azure"}:
            name = "max_tokens"
        body[name] = output_cap
    return orjson.dumps(body)
