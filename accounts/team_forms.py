"""Forms of the pages about organizations, members and webhooks. They check shape; the verbs check rules."""

import uuid
from datetime import timedelta
from typing import Any
from zoneinfo import available_timezones

from django import forms

from accounts import events
from accounts.models import Organization, Role

ROLE_HELP = {
    Role.ADMIN: "everything but ownership and deleting",
    Role.DEVELOPER: "keys, webhooks and images",
    Role.BILLING: "credit, purchases and statements",
    Role.VIEWER: "looks, changes nothing",
}
# The owner is made by transfer alone.
GIVEN_ROLES = [(role.value, f"{role.label}: {text}") for role, text in ROLE_HELP.items()]
OVERLAPS = [("0", "Stop using the old secret now"), ("1", "1 hour"), ("24", "24 hours"), ("168", "7 days")]


def _zones() -> list[tuple[str, str]]:
    names = sorted(name for name in available_timezones() if "/" in name and not name.startswith(("Etc/", "SystemV/")))
    return [("UTC", "UTC"), *((name, name.replace("_", " ")) for name in names)]


class OrganizationForm(forms.Form):
    """The name and the time zone of an organization."""

    name = forms.CharField(max_length=120, widget=forms.TextInput(attrs={"autocomplete": "organization"}))
    timezone = forms.ChoiceField(
        label="Time zone", choices=_zones, help_text="Days and months of budgets and reports begin in it."
    )

    def clean_name(self) -> str:
        return " ".join(self.cleaned_data["name"].split())


class InviteForm(forms.Form):
    email = forms.EmailField(
        label="Email", max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "off", "spellcheck": "false"})
    )
    role = forms.ChoiceField(label="Role", choices=GIVEN_ROLES, initial=Role.DEVELOPER)


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=[(role.value, role.label) for role in ROLE_HELP])


class TypedForm(forms.Form):
    """What is hard to undo asks for the organization's address, typed."""

    typed = forms.CharField(max_length=60, widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}))

    def __init__(self, *args: Any, organization: Organization, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._slug = organization.slug
        self.fields["typed"].label = f"Type {organization.slug} to confirm"

    def clean_typed(self) -> str:
        typed: str = self.cleaned_data["typed"]
        if typed != self._slug:
            raise forms.ValidationError(f"Type {self._slug}, as it stands in the address of these pages.")
        return typed


class WebhookForm(forms.Form):
    url = forms.CharField(
        label="URL",
        max_length=500,
        help_text="An https address on the public internet.",
        widget=forms.URLInput(attrs={"placeholder": "https://example.com/hooks", "spellcheck": "false"}),
    )
    description = forms.CharField(max_length=120, required=False, help_text="For you: what listens there.")
    kinds = forms.MultipleChoiceField(
        label="Events",
        choices=[(kind, kind) for kind in events.KINDS],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="None chosen: all of them, those that come later too.",
    )


class NewWebhookForm(WebhookForm):
    """`token` makes a second submit of the same form visible: it is the webhook's public id to be."""

    token = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, initial={"token": uuid.uuid4()})


class WebhookSettingsForm(WebhookForm):
    is_enabled = forms.BooleanField(label="Send events here", required=False)


class OverlapForm(forms.Form):
    overlap = forms.ChoiceField(
        label="Sign with the old secret too for",
        choices=OVERLAPS,
        initial="24",
        help_text="Long enough to put the new secret where the old one is.",
    )

    def period(self) -> timedelta:
        return timedelta(hours=int(self.cleaned_data["overlap"]))


class AuditFilterForm(forms.Form):
    """The filters of the audit log. Wrong values show an error and filter nothing."""

    actor = forms.ChoiceField(label="Who", required=False, widget=forms.Select(attrs={"class": "control"}))
    action = forms.ChoiceField(label="What", required=False, widget=forms.Select(attrs={"class": "control"}))
    first_day = forms.DateField(
        label="From",
        required=False,
        widget=forms.DateInput(attrs={"type": "date", "class": "control"}, format="%Y-%m-%d"),
    )
    last_day = forms.DateField(
        label="To",
        required=False,
        widget=forms.DateInput(attrs={"type": "date", "class": "control"}, format="%Y-%m-%d"),
    )

    def __init__(self, *args: Any, actors: list[tuple[str, str]], actions: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["actor"].choices = [("", "Anybody"), *actors]  # type: ignore[attr-defined]
        self.fields["action"].choices = [("", "Anything"), *((each, each) for each in actions)]  # type: ignore[attr-defined]
