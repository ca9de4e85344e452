"""The metered endpoints: what each reads of a body, what it may cost at most, and what goes upstream."""

from collections.abc import Mapping
from typing import Any

import orjson

from proxy.gateway import audio, fields, image_tool, images, messages, responses, speech, texts, words
from proxy.gateway.forms import Upload
from proxy.gateway.jobs import DEFAULT_OUTPUT_TOKENS, Endpoint, Job
from proxy.gateway.message_answers import MessageMeter
from proxy.gateway.snapshots import Deployment

__all__ = ["DEFAULT_OUTPUT_TOKENS", "ENDPOINTS", "Endpoint", "Job", "upstream_body"]

_IMAGES: dict[str, Any] = {
    "output_kind": "image",
    "bound": images.bound,
    "delivered": images.delivered,
    "charge": images.charge,
    "estimate": images.estimate,
}
_AUDIO: dict[str, Any] = {
    "fields_of": audio.fields_of,
    "text_of": audio.text_of,
    "bound": audio.bound,
    "delivered": audio.delivered,
    "charge": audio.charge,
    "estimate": audio.estimate,
    "render": audio.render,
    "meter": audio.meter,
}
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
        Endpoint(
            messages.PATH,
            "chat",
            messages.parse,
            asks_usage=True,
            text_of=words.of_choices,
            render=messages.render,
            upstream_path="/v1/chat/completions",
            meter=lambda job: MessageMeter(job.model, job.prompt_tokens),
        ),
        Endpoint("/v1/images/generations", "images", images.generations, meter=images.generation_meter, **_IMAGES),
        Endpoint(
            "/v1/images/edits",
            "images",
            parse_form=images.edits,
            fields_of=images.fields_of,
            meter=images.edit_meter,
            **_IMAGES,
        ),
        Endpoint(
            "/v1/images/variations",
            "images",
            parse_form=images.variations,
            fields_of=images.fields_of,
            meter=images.edit_meter,
            **_IMAGES,
        ),
        Endpoint("/v1/audio/transcriptions", "audio", parse_form=audio.transcriptions, **_AUDIO),
        Endpoint("/v1/audio/translations", "audio", parse_form=audio.translations, **_AUDIO),
        Endpoint(
            "/v1/audio/speech",
            "audio",
            speech.parse,
            output_kind="audio",
            bound=speech.bound,
            charge=speech.charge,
            estimate=speech.estimate,
            meter=speech.meter,
            accept="*/*",
        ),
    )
}


def upstream_body(endpoint: Endpoint, job: Job, deployment: Deployment, *, output_cap: int | None) -> bytes | Upload:
    """The body for `deployment`: its own model name, usage asked for on streams, the output capped if need be."""
    if job.form is not None:
        return Upload(job.form, {"model": deployment.upstream_name, **job.replaces})
    body = dict(job.body)
    body["model"] = deployment.upstream_name
    if job.is_stream and endpoint.asks_usage:
        options = body.get("stream_options")
        body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    if job.tool is not None:
        body["tools"] = image_tool.upstream_tools(job, deployment)
    if output_cap is None:
        output_cap = job.own_limit
    if output_cap is not None and job.output_limit_field:
        name = job.output_limit_field
        if name == "max_completion_tokens" and deployment.kind not in {"openai", "azure"}:
            name = "max_tokens"
        for other in fields.OUTPUT_LIMITS:
            body.pop(other, None)  # the provider might go by it
        body[name] = output_cap
    return orjson.dumps(body)
