"""The playground: conversations with a model, kept for their author. What is asked goes from the browser to `/v1`."""

import re
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.utils.text import slugify
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import MemberRequest, can, organization_for, origin_of
from accounts.models import Organization, Role
from billing import usage
from billing.money import format_credits
from proxy import conversations, offers, passes, playground
from proxy.models import Conversation, ConversationMessage
from proxy.playground_forms import SaidForm, SettingsForm, TitleForm

EXPORTS = {"json": "application/json", "md": "text/markdown; charset=utf-8"}
MAX_SEARCH = 200
_REQUEST = re.compile(r"(?:req_)?([0-9a-f]{32})")


@require_safe
@login_required
def chat(request: MemberRequest, slug: str, conversation_id: UUID | None = None) -> HttpResponse:
    """A conversation, or the beginning of one. To htmx: the list of conversations alone."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    conversation = None if conversation_id is None else _conversation(request, organization, conversation_id)
    search = request.GET.get("q", "").strip()[:MAX_SEARCH]
    context = {
        "organization": organization,
        "page": conversations.page(organization, request.user, search=search, after=request.GET.get("after", "")),
        "search": search,
        "conversation": conversation,
    }
    if request.htmx:
        response = render(request, "proxy/playground/chat.html#conversations", context)
    else:
        context |= {
            "said": [] if conversation is None else conversations.messages_of(conversation),
            "settings": {} if conversation is None else conversation.settings,
            "choice": offers.choice(
                organization,
                offers.CHAT,
                conversation.model if conversation is not None else request.GET.get("model", ""),
            ),
            "billing_url": billing_url(request, organization),
            "blank_user": {"role": ConversationMessage.Role.USER},
            "blank_assistant": {"role": ConversationMessage.Role.ASSISTANT},
        }
        response = render(request, "proxy/playground/chat.html", context)
    patch_vary_headers(response, ["HX-Request"])
    return response


@sensitive_post_parameters()
@require_POST
@login_required
def start(request: MemberRequest, slug: str) -> HttpResponse:
    """Keep the first message: {"id", "title", "url", "message"}."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    settings, said = SettingsForm(request.POST), SaidForm(request.POST)
    if not (settings.is_valid() and said.is_valid()):
        return _refused(settings, said)
    conversation, message = conversations.start(
        organization=organization,
        author=request.user,
        model=settings.cleaned_data["model"],
        settings=settings.settings(),
        said=said.said(),
    )
    told = {
        "id": str(conversation.public_id),
        "title": conversation.title,
        "url": reverse("proxy:conversation", args=[slug, conversation.public_id]),
    }
    return JsonResponse(told | _message(message), status=201)


@sensitive_post_parameters()
@require_POST
@login_required
def say(request: MemberRequest, slug: str, conversation_id: UUID) -> HttpResponse:
    """Keep a message: {"message"}. The member's own messages say with what the conversation goes on."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    conversation = _conversation(request, organization, conversation_id)
    settings, said = SettingsForm(request.POST), SaidForm(request.POST)
    goes_on = "model" in request.POST
    if not said.is_valid() or (goes_on and not settings.is_valid()):
        return _refused(said, *([settings] if goes_on else []))
    try:
        message = conversations.say(
            conversation=conversation,
            said=said.said(),
            model=settings.cleaned_data["model"] if goes_on else "",
            settings=settings.settings() if goes_on else None,
            replaces=said.cleaned_data["replaces"],
        )
    except conversations.TooLong:
        return JsonResponse({"error": "This conversation is full. Fork it, or begin a new one."}, status=409)
    except conversations.NoSuchMessage:
        return JsonResponse({"error": "That message is no longer there. Reload the page."}, status=409)
    return JsonResponse(_message(message), status=201)


@require_http_methods(["GET", "POST"])
@login_required
def rename(request: MemberRequest, slug: str, conversation_id: UUID) -> HttpResponse:
    organization = organization_for(request, slug, Role.DEVELOPER)
    conversation = _conversation(request, organization, conversation_id)
    form = TitleForm(request.POST if request.method == "POST" else None, initial={"title": conversation.title})
    if request.method == "POST" and form.is_valid():
        conversations.rename(conversation=conversation, title=form.cleaned_data["title"])
        messages.success(request, "Renamed.")
        return redirect("proxy:conversation", slug, conversation_id)
    return _dialog(request, "rename", conversation, {"form": form}, status=422 if form.is_bound else 200)


@require_POST
@login_required
def fork(request: MemberRequest, slug: str, conversation_id: UUID) -> HttpResponse:
    """A new conversation up to the message `message`."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    conversation = _conversation(request, organization, conversation_id)
    try:
        made = conversations.fork(conversation=conversation, until=UUID(request.POST.get("message", "")))
    except (ValueError, conversations.NoSuchMessage):
        messages.error(request, "That message is no longer there.")
        return redirect("proxy:conversation", slug, conversation_id)
    messages.success(request, "Forked: this is a conversation of its own.")
    return redirect("proxy:conversation", slug, made.public_id)


@require_http_methods(["GET", "POST"])
@login_required
def delete(request: MemberRequest, slug: str, conversation_id: UUID) -> HttpResponse:
    """Ask first."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    conversation = _conversation(request, organization, conversation_id)
    if request.method == "POST":
        conversations.delete(conversation=conversation)
        messages.success(request, f"Deleted “{conversation.title}”.")
        return redirect("proxy:playground", slug)
    return _dialog(request, "delete", conversation, {})


@require_safe
@login_required
def export(request: MemberRequest, slug: str, conversation_id: UUID, kind: str) -> HttpResponse:
    """The conversation as a file: `json` or `md`."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    conversation = _conversation(request, organization, conversation_id)
    if kind == "json":
        response: HttpResponse = JsonResponse(conversations.as_json(conversation), json_dumps_params={"indent": 2})
    else:
        response = HttpResponse(conversations.as_markdown(conversation), content_type=EXPORTS[kind])
    name = slugify(conversation.title)[:60] or "conversation"
    response["Content-Disposition"] = f'attachment; filename="{name}.{kind}"'
    return response


@never_cache
@sensitive_variables("secret")
@require_POST
@login_required
def pass_(request: MemberRequest, slug: str) -> HttpResponse:
    """A pass for the member's browser: {"value", "expires_at"}."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    key = playground.key_of(organization, by=request.user, origin=origin_of(request))
    secret, expires_at = passes.mint(key=key, member=request.user)
    return JsonResponse({"value": secret, "expires_at": int(expires_at.timestamp())})


@never_cache
@require_safe
@login_required
def cost(request: MemberRequest, slug: str, request_id: str) -> HttpResponse:
    """What a request cost: {"credits"}; null while it is not charged, as while a stopped answer is still drained."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    found = _REQUEST.fullmatch(request_id)
    known = usage.costs(organization, [UUID(found[1])]) if found else {}
    return JsonResponse({"credits": format_credits(next(iter(known.values()))) if known else None})


def billing_url(request: MemberRequest, organization: Organization) -> str:
    """Where this member buys credit; empty if they may not, or if none is sold."""
    may = can(request.membership, "billing.manage")
    return reverse("billing:billing", args=[organization.slug]) if may else ""


def _conversation(request: MemberRequest, organization: Organization, conversation_id: UUID) -> Conversation:
    return get_object_or_404(conversations.of(organization, request.user), public_id=conversation_id)


def _message(message: ConversationMessage) -> dict[str, object]:
    cost = None if message.cost_nanos is None else format_credits(message.cost_nanos)
    return {"message": {"id": str(message.public_id), "cost": cost}}


def _refused(*forms: SettingsForm | SaidForm) -> HttpResponse:
    problems = [f"{name}: {errors[0]}" for form in forms for name, errors in form.errors.items()]
    return JsonResponse({"error": problems[0] if problems else "The message cannot be kept."}, status=422)


def _dialog(
    request: MemberRequest, name: str, conversation: Conversation, more: dict[str, object], *, status: int = 200
) -> HttpResponse:
    template = f"proxy/playground/{name}.html" + ("#dialog" if request.htmx else "")
    context = {"organization": request.organization, "conversation": conversation, **more}
    response = render(request, template, context, status=status)
    patch_vary_headers(response, ["HX-Request"])
    return response
