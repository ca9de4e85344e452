"""Staff's view of images: what was reported, hiding, and deleting."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from gallery import keeping, links, showing
from gallery.models import GallerySettings, Image, Report


@admin.register(Image)
class ImageAdmin(admin.ModelAdmin):
    list_display = (
        "thumb",
        "model",
        "organization",
        "visibility",
        "is_hidden",
        "is_nsfw",
        "open_reports",
        "created_at",
    )
    list_filter = ("visibility", "is_hidden", "is_nsfw", "model", "created_at")
    list_select_related = ("organization",)
    search_fields = ("prompt", "public_id", "organization__slug", "end_user")
    actions = ("hide", "show", "mark_nsfw", "delete_with_files")
    show_full_result_count = False
    list_per_page = 50

    def get_queryset(self, request: HttpRequest) -> QuerySet[Image]:
        unresolved = Count("reports", filter=Q(reports__resolved_at=None))
        return super().get_queryset(request).annotate(unresolved=unresolved)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [field.name for field in Image._meta.fields if field.name not in {"visibility", "is_hidden", "is_nsfw"}]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """By the action alone, which takes the files along."""
        return False

    def save_model(self, request: HttpRequest, obj: Image, form: Any, change: bool) -> None:
        """By the verbs, which end the addresses of what fewer may see."""
        if "visibility" in form.changed_data:
            image = Image.objects.select_related("organization").get(pk=obj.pk)
            showing.set_visibility([image], obj.visibility, by=request.user)  # type: ignore[arg-type]
        if "is_hidden" in form.changed_data:
            showing.set_hidden(Image.objects.filter(pk=obj.pk), obj.is_hidden)
        if "is_nsfw" in form.changed_data:
            obj.save(update_fields=["is_nsfw"])

    @admin.display(description="")
    def thumb(self, image: Image) -> SafeString:
        return format_html('<img src="{}" width="72" alt="">', links.thumbnail_of(image))

    @admin.display(ordering="unresolved")
    def open_reports(self, image: Any) -> int:
        count: int = image.unresolved
        return count

    @admin.action(description="Hide, and settle the reports", permissions=["change"])
    def hide(self, request: HttpRequest, queryset: QuerySet[Image]) -> None:
        ids = list(queryset.values_list("pk", flat=True))
        Report.objects.filter(image_id__in=ids, resolved_at=None).update(
            resolved_at=timezone.now(), resolved_by=request.user
        )
        messages.success(request, f"Hid {showing.set_hidden(Image.objects.filter(pk__in=ids), True)} images.")

    @admin.action(description="Show again, and settle the reports", permissions=["change"])
    def show(self, request: HttpRequest, queryset: QuerySet[Image]) -> None:
        ids = list(queryset.values_list("pk", flat=True))
        Report.objects.filter(image_id__in=ids, resolved_at=None).update(
            resolved_at=timezone.now(), resolved_by=request.user
        )
        messages.success(request, f"{showing.set_hidden(Image.objects.filter(pk__in=ids), False)} images are shown.")

    @admin.action(description="Mark as not safe for work", permissions=["change"])
    def mark_nsfw(self, request: HttpRequest, queryset: QuerySet[Image]) -> None:
        messages.success(request, f"Marked {queryset.order_by().update(is_nsfw=True)} images.")

    @admin.action(description="Delete with their files", permissions=["change"])
    def delete_with_files(self, request: HttpRequest, queryset: QuerySet[Image]) -> None:
        gone = keeping.remove(list(queryset), by=request.user)  # type: ignore[arg-type]
        messages.success(request, f"Deleted {gone} images.")


@admin.register(Report)
class ReportAdmin(admin.ModelAdmin):
    list_display = ("created_at", "image", "reason", "resolved_at", "resolved_by")
    list_filter = (("resolved_at", admin.EmptyFieldListFilter), "created_at")
    list_select_related = ("image", "resolved_by")
    search_fields = ("reason", "image__public_id")
    readonly_fields = ("image", "reason", "created_at", "resolved_at", "resolved_by")
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(GallerySettings)
class GallerySettingsAdmin(admin.ModelAdmin):
    list_display = ("organization", "is_kept", "visibility", "retention_days")
    list_select_related = ("organization",)
    search_fields = ("organization__slug",)
    autocomplete_fields = ("organization",)
