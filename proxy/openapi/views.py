"""How drf-spectacular reads the management API's views: they name no serializers, the hand-kept files do the rest."""

from typing import Any

from drf_spectacular.openapi import AutoSchema

# The security scheme of `components.yaml` by the name of the class that checks it; {}: nobody need be known.
SCHEMES: dict[str, list[dict[str, list[str]]]] = {
    "KeyAuthentication": [{"apiKey": []}, {"accessToken": []}],
    "MaybeKey": [{"apiKey": []}, {}],
    "MemberAuthentication": [{"accessToken": []}],
    "OperatorAuthentication": [{"adminToken": []}, {"apiKey": []}, {"accessToken": []}],
}


class ManagedSchema(AutoSchema):
    """Says nothing of bodies where no serializer is declared, instead of guessing."""

    def get_auth(self) -> list[dict[str, list[str]]]:
        names = [type(one).__name__ for one in self.view.get_authenticators()]
        return [scheme for name in names for scheme in SCHEMES.get(name, [])]

    def get_request_serializer(self) -> Any:
        return None

    def get_response_serializers(self) -> Any:
        return {200: {"type": "object", "additionalProperties": {}}}

    def get_operation_id(self) -> str:
        """From the path and the method: `listCreditsPacks` would promise more than it knows."""
        words = self.path.removeprefix("/v1/").replace("{", "").replace("}", "").replace("/", "_").strip("_")
        return f"{self.method.lower()}_{words}"

    def _get_paginator(self) -> None:
        return None
