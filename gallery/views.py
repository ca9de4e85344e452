"""Pages of images: the public gallery, one image, and an organization's own with what can be done to them."""

import io
import zipfile
from collections.abc import Iterator
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_http_methods, require_safe

from accounts.access import MemberRequest, can, organization_for, origin_of
from accounts.models import Role
from gallery import browsing, keeping, links, showing
from gallery.browsing import Filter
from gallery.models import Image, Report, Visibility

MAX_SELECTED = 200
SIZES = ("1024x1024", "1024x1536", "1536x1024")


class FilterForm(forms.Form):
    """The filters of both galleries; wrong values filter nothing."""

    q = forms.CharField(label="Words of the prompt", required=False, max_length=200)
    model = forms.CharField(required=False, max_length=200)
    size = forms.ChoiceField(choices=[("", "Any"), *((size, size) for size in SIZES)], required=False)
    visibility = forms.ChoiceField(choices=[("", "Any"), *Visibility.choices], required=False)

    def which(self) -> Filter:
        self.full_clean()
        given = getattr(self, "cleaned_data", {})
        return Filter(
            model=given.get("model", ""),
            size=given.get("size", ""),
            search=given.get("q", ""),
            visibility=given.get("visibility", ""),
        )


class SettingsForm(forms.Form):
    is_kept = forms.BooleanField(
        label="Keep images", required=False, help_text="Without it, images go out and leave nothing behind."
    )
    visibility = forms.ChoiceField(
        label="Visibility of new images",
        choices=Visibility.choices,
        help_text="A request may say otherwise in x-gallery-visibility.",
    )
    retention_days = forms.IntegerField(
        label="Delete after days", required=False, min_value=1, max_value=36_500, help_text="Empty: never."
    )


class ReportForm(forms.Form):
    reason = forms.CharField(label="What is wrong with it?", max_length=500, widget=forms.Textarea(attrs={"rows": 3}))


@require_safe
def gallery(request: HttpRequest) -> HttpResponse:
    """Everybody's public images."""
    form = FilterForm(request.GET)
    page = browsing.public(form.which(), after=_cursor(request))
    template = "gallery/gallery.html#tiles" if getattr(request, "htmx", False) else "gallery/gallery.html"
    response = render(request, template, {"page": page, "form": form, "is_filtered": form.which() != Filter()})
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_safe
def detail(request: HttpRequest, public_id: UUID) -> HttpResponse:
    """One image, for whoever may see it."""
    image = get_object_or_404(Image.objects.select_related("organization", "key"), public_id=public_id)
    user = request.user
    mine = user.memberships.filter(organization_id=image.organization_id).first() if user.is_authenticated else None
    if mine is None and (image.visibility == Visibility.PRIVATE or image.is_hidden):
        raise Http404
    context = {
        "image": image,
        "is_own": mine is not None,
        "may_play": mine is not None and can(mine, "images.manage"),
        "url": links.of(image),
    }
    return render(request, "gallery/detail.html", context)


@require_http_methods(["GET", "POST"])
def report(request: HttpRequest, public_id: UUID) -> HttpResponse:
    """Tell staff that an image should not be shown."""
    image = get_object_or_404(Image.objects.public(), public_id=public_id)
    form = ReportForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        if image.reports.filter(resolved_at=None).count() < 20:
            Report.objects.create(image=image, reason=form.cleaned_data["reason"])
        return render(request, "gallery/reported.html")
    return render(request, "gallery/report.html", {"image": image, "form": form}, status=422 if form.is_bound else 200)


@require_http_methods(["GET", "POST"])
@login_required
def own_images(request: MemberRequest, slug: str) -> HttpResponse:
    """The organization's images; POST changes the selected ones (`action`), or the settings."""
    organization = organization_for(request, slug, Role.DEVELOPER if request.method == "POST" else Role.VIEWER)
    wanted = keeping.settings_of(organization)
    initial = {"is_kept": wanted.is_kept, "visibility": wanted.visibility, "retention_days": wanted.retention_days}
    is_settings = request.POST.get("action") == "settings"
    settings_form = SettingsForm(request.POST if is_settings else None, initial=initial, prefix="settings")
    if is_settings and settings_form.is_valid():
        organization_for(request, slug, Role.ADMIN)
        keeping.set_settings(
            organization=organization, by=request.user, origin=origin_of(request), **settings_form.cleaned_data
        )
        messages.success(request, "Saved.")
        return redirect("gallery:own-images", slug)
    if request.method == "POST" and not is_settings:
        return _apply(request, slug)
    form = FilterForm(request.GET)
    which = form.which()
    context = {
        "organization": organization,
        "page": browsing.own(organization, which, after=_cursor(request)),
        "form": form,
        "is_filtered": which != Filter(),
        "used": browsing.bytes_of(organization),
        "settings_form": settings_form,
        "may_manage": can(request.membership, "images.manage"),
        "may_set": can(request.membership, "organization.manage"),
        "visibilities": Visibility.choices,
    }
    template = "gallery/own_images.html#tiles" if request.htmx else "gallery/own_images.html"
    response = render(request, template, context, status=422 if is_settings else 200)
    patch_vary_headers(response, ["HX-Request"])
    return response


def _apply(request: MemberRequest, slug: str) -> HttpResponse:
    """Do to the selected images what was asked; deleting asks first."""
    action = request.POST.get("action", "")
    ids = [text for text in request.POST.getlist("image") if _is_uuid(text)][:MAX_SELECTED]
    images = list(request.organization.images.filter(public_id__in=ids).select_related("organization"))
    origin = origin_of(request)
    if not images:
        messages.error(request, "Select some images first.")
    elif action == "delete" and "confirmed" not in request.POST:
        context = {"organization": request.organization, "images": images}
        return render(request, "gallery/delete.html", context)
    elif action == "delete":
        messages.success(request, f"Deleted {keeping.remove(images, by=request.user, origin=origin)} images.")
    elif action == "zip":
        return _zip(images)
    elif action in Visibility.values:
        showing.set_visibility(images, action, by=request.user, origin=origin)
        messages.success(request, f"{len(images)} images are {action} now.")
    return redirect("gallery:own-images", slug)


def _zip(images: list[Image]) -> HttpResponse:
    """The originals in one archive, written as it is sent: one image at a time in memory."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.ready = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            piece = bytes(data)  # type: ignore[call-overload]
            self.ready += piece
            return len(piece)

        def take(self) -> bytes:
            piece, self.ready = bytes(self.ready), bytearray()
            return piece

    def pieces() -> Iterator[bytes]:
        pipe = Pipe()
        with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[type-var]
            for image in images:
                data = keeping.read(image)
                if data is not None:
                    archive.writestr(f"{image.public_id}.{links.EXTENSIONS.get(image.media_type, 'bin')}", data)
                    yield pipe.take()
        yield pipe.take()

    headers = {"Content-Disposition": 'attachment; filename="images.zip"'}
    return StreamingHttpResponse(pieces(), content_type="application/zip", headers=headers)


def _cursor(request: HttpRequest) -> int | None:
    text = request.GET.get("after", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
