"""What the playground's own script sends to be kept: shapes only."""

from typing import Any

from django import forms

from proxy import conversations
from proxy.conversations import Said
from proxy.models import ConversationMessage

MAX_NAME = 200


class SettingsForm(forms.Form):
    """With what a conversation goes on. Empty fields leave it to the model."""

    model = forms.CharField(max_length=MAX_NAME)
    system = forms.CharField(max_length=32_000, required=False, strip=False)
    temperature = forms.FloatField(min_value=0, max_value=2, required=False)
    top_p = forms.FloatField(min_value=0, max_value=1, required=False)
    max_tokens = forms.IntegerField(min_value=1, max_value=10_000_000, required=False)

    def settings(self) -> dict[str, Any]:
        """The settings that are set."""
        given = {name: self.cleaned_data[name] for name in ("system", "temperature", "top_p", "max_tokens")}
        return {name: value for name, value in given.items() if value not in (None, "")}


class SaidForm(forms.Form):
    """A message to keep."""

    role = forms.ChoiceField(choices=ConversationMessage.Role.choices)
    text = forms.CharField(max_length=conversations.MAX_TEXT, required=False, strip=False)
    images = forms.JSONField(required=False)
    answered_by = forms.CharField(max_length=MAX_NAME, required=False)
    request_id = forms.UUIDField(required=False)
    ending = forms.SlugField(max_length=20, required=False)
    replaces = forms.UUIDField(required=False)

    def clean_images(self) -> tuple[str, ...]:
        images = self.cleaned_data["images"] or []
        is_list = isinstance(images, list) and len(images) <= conversations.MAX_IMAGES
        if not is_list or not conversations.are_images(images):
            raise forms.ValidationError("Pictures must be a list of data URLs.")
        return tuple(images)

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if not given.get("text") and not given.get("images") and given.get("role") == ConversationMessage.Role.USER:
            raise forms.ValidationError("Say something.")
        return given

    def said(self) -> Said:
        given = self.cleaned_data
        return Said(
            role=given["role"],
            text=given["text"],
            images=given["images"],
            model=given["answered_by"],
            request_id=given["request_id"],
            ending=given["ending"],
        )


class TitleForm(forms.Form):
    title = forms.CharField(max_length=120)
