"""The playground's other tabs: images, transcription, speech. Each sends from the browser to `/v1`."""

from uuid import UUID

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.csp import CSP
from django.views.decorators.csp import csp_override
from django.views.decorators.http import require_safe

from accounts.access import MemberRequest, organization_for
from accounts.models import Organization, Role
from gallery import links
from gallery.models import Image, Visibility
from proxy import offers
from proxy.playground_views import billing_url
from proxy.views import current_organization

SIZES = ("auto", "1024x1024", "1024x1536", "1536x1024")
QUALITIES = ("auto", "low", "medium", "high")
VOICES = (
    "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse",
)  # fmt: skip
SOUNDS = ("mp3", "wav", "opus", "aac", "flac")
TEXTS = (("json", "Text"), ("srt", "Subtitles (SRT)"), ("vtt", "Subtitles (WebVTT)"))
MAX_PREFILLED = 4_000
# Sound that the page has just received, or recorded, is played from memory.
WITH_SOUND = {**settings.SECURE_CSP, "media-src": [CSP.SELF, "blob:"]}


@require_safe
@login_required
def images(request: MemberRequest, slug: str) -> HttpResponse:
    """Make or change pictures. `?image=` begins with one of the gallery, `?prompt=` and `?model=` with those."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    image = _image(organization, request.GET.get("image", ""))
    given = request.GET
    context = {
        "organization": organization,
        "choice": offers.choice(
            organization, offers.GENERATIONS, given.get("model", "") or (image.model if image else "")
        ),
        "prompt": (given.get("prompt", "") or (image.prompt if image else ""))[:MAX_PREFILLED],
        "image": image,
        "image_url": _path_of(image) if image else "",
        "sizes": SIZES,
        "size": given.get("size", "") or (image.size if image else ""),
        "qualities": QUALITIES,
        "quality": image.quality if image else "",
        "billing_url": billing_url(request, organization),
    }
    return render(request, "proxy/playground/images.html", context)


@csp_override(WITH_SOUND)
@require_safe
@login_required
def transcription(request: MemberRequest, slug: str) -> HttpResponse:
    organization = organization_for(request, slug, Role.DEVELOPER)
    context = {
        "organization": organization,
        "choice": offers.choice(organization, offers.TRANSCRIPTIONS, request.GET.get("model", "")),
        "formats": TEXTS,
        "billing_url": billing_url(request, organization),
    }
    return render(request, "proxy/playground/transcription.html", context)


@csp_override(WITH_SOUND)
@require_safe
@login_required
def speech(request: MemberRequest, slug: str) -> HttpResponse:
    organization = organization_for(request, slug, Role.DEVELOPER)
    context = {
        "organization": organization,
        "choice": offers.choice(organization, offers.SPEECH, request.GET.get("model", "")),
        "voices": VOICES,
        "sounds": SOUNDS,
        "billing_url": billing_url(request, organization),
    }
    return render(request, "proxy/playground/speech.html", context)


@require_safe
@login_required
def mine(request: MemberRequest) -> HttpResponse:
    """To the images tab of the organization that the reader looked at last, for links that know of none."""
    address = reverse("proxy:playground-images", args=[current_organization(request).slug])
    query = request.GET.urlencode()
    return redirect(f"{address}?{query}" if query else address)


def _image(organization: Organization, public_id: str) -> Image | None:
    """The image, if it is the organization's or shown to others; a wrong id is none."""
    try:
        image = Image.objects.filter(public_id=UUID(public_id)).first()
    except ValueError:
        return None
    if image is None or image.organization_id == organization.pk:
        return image
    return None if image.visibility == Visibility.PRIVATE or image.is_hidden else image


def _path_of(image: Image) -> str:
    """Its bytes on this very host: a page's script may read them only there."""
    return links.path_of(image)
