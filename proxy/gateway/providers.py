"""How each kind of provider is addressed: where an endpoint lies, and how our key is sent."""

from urllib.parse import quote

from proxy.gateway.snapshots import Deployment

# Azure names the deployment in the path of these; of the rest, such as responses, in the body (as OpenAI's SDK does).
_AZURE_BY_DEPLOYMENT = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/v1/audio/speech",
        "/v1/images/generations",
        "/v1/images/edits",
    }
)


def url_of(deployment: Deployment, path: str, *, query: str = "", api_version: str = "") -> str:
    """Where `deployment` answers the path `path` of our API. `api_version` is the client's own, if it gave one."""
    base = deployment.base_url
    url = _azure(deployment, path) if _is_classic_azure(deployment) else base + path.removeprefix("/v1")
    if deployment.api_version:
        version = f"api-version={quote(api_version or deployment.api_version, safe='')}"
        query = f"{version}&{query}" if query else version
    return f"{url}?{query}" if query else url


def headers_of(deployment: Deployment) -> dict[str, str]:
    """Our identity towards the provider."""
    headers = {"user-agent": "tuppence", "accept-encoding": "identity"}
    if deployment.api_key:
        if deployment.kind == "azure":
            headers["api-key"] = deployment.api_key
        else:
            headers["authorization"] = f"Bearer {deployment.api_key}"
    return headers


def _is_classic_azure(deployment: Deployment) -> bool:
    """Whether paths name deployments; the newer base URL that ends with `/v1` is addressed as OpenAI is."""
    return deployment.kind == "azure" and not deployment.base_url.endswith("/v1")


def _azure(deployment: Deployment, path: str) -> str:
    base = deployment.base_url.removesuffix("/openai")
    if path in _AZURE_BY_DEPLOYMENT:
        return f"{base}/openai/deployments/{quote(deployment.upstream_name, safe='')}{path.removeprefix('/v1')}"
    return f"{base}/openai{path.removeprefix('/v1')}"
