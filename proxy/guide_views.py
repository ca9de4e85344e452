"""The guides and the error reference."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from proxy import error_reference
from proxy.guides import BY_SLUG, GUIDES
from proxy.models import Model


@require_GET
def guides(request: HttpRequest) -> HttpResponse:
    return render(request, "proxy/guides/index.html", {"guides": GUIDES})


@require_GET
def guide(request: HttpRequest, slug: str) -> HttpResponse:
    found = BY_SLUG.get(slug)
    if found is None:
        raise Http404
    position = GUIDES.index(found)
    context = {
        "guides": GUIDES,
        "guide": found,
        "next": GUIDES[position + 1] if position + 1 < len(GUIDES) else None,
        "model": Model.objects.for_first_request(),
        "embedding_model": _named("embedding", "text-embedding-3-small"),
        "image_model": _named("image", "gpt-image-1-mini"),
        "speech_model": _named("speech", "gpt-4o-mini-tts"),
        "key": "YOUR_API_KEY",
    }
    if slug == "errors":
        context["errors"] = error_reference.entries()
    return render(request, found.template, context)


def _named(modality: str, favourite: str) -> str:
    """A model of this kind that is served, the favourite if it is."""
    names = Model.objects.served().filter(modality=modality).featured_first().values_list("name", flat=True)
    return favourite if favourite in names else next(iter(names), favourite)
