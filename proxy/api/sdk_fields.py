"""The bodies of `/v1/sdk/*`, in the camel case that its clients send."""

from typing import Any

from rest_framework import serializers

from billing.usage_counts import MAX_COUNT

_MAX_LATENCY_MS = 24 * 3600 * 1000
_ENDPOINTS = {
    "chat": "/v1/chat/completions",
    "completion": "/v1/completions",
    "responses": "/v1/responses",
    "embedding": "/v1/embeddings",
    "embeddings": "/v1/embeddings",
    "image": "/v1/images/generations",
    "speech": "/v1/audio/speech",
    "transcription": "/v1/audio/transcriptions",
    "moderation": "/v1/moderations",
    "realtime": "/v1/realtime",
}


def endpoint_of(request_type: str) -> str:
    """The endpoint that stands for a `requestType` in the request log; its own name where there is none."""
    return _ENDPOINTS.get(request_type, f"sdk/{request_type}")


class Fields(serializers.Serializer[Any]):
    """A body to read."""

    @classmethod
    def read(cls, data: Any) -> dict[str, Any]:
        """The fields, with their defaults. Raises REST framework's `ValidationError`."""
        fields = cls(data=data)
        fields.is_valid(raise_exception=True)
        valid: dict[str, Any] = fields.validated_data
        return valid


class CheckFields(Fields):
    userId = serializers.CharField(max_length=256)
    model = serializers.CharField(max_length=200)
    requestType = serializers.CharField(max_length=60, default="chat")
    runId = serializers.CharField(max_length=256, default="", allow_blank=True)


class _CountFields(Fields):
    inputTokens = serializers.IntegerField(min_value=0, max_value=MAX_COUNT, default=0)
    outputTokens = serializers.IntegerField(min_value=0, max_value=MAX_COUNT, default=0)


class _UsedFields(_CountFields):
    usage = serializers.DictField(default=None, allow_null=True)
    latencyMs = serializers.IntegerField(min_value=0, max_value=_MAX_LATENCY_MS, default=0)
    success = serializers.BooleanField(default=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        given = self.initial_data
        if not attrs["usage"] and not ("inputTokens" in given or "outputTokens" in given):
            raise serializers.ValidationError({"inputTokens": "Say what was used: the tokens, or 'usage'."})
        return attrs


class RecordFields(CheckFields, _UsedFields):
    pass


class ReserveFields(CheckFields, _CountFields):
    """`outputTokens` is the most that the answer may have."""


class ReservationFields(Fields):
    reservationId = serializers.UUIDField()


class CommitFields(ReservationFields, _UsedFields):
    pass
