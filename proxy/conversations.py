"""Keeping conversations of the playground: begun, continued, renamed, forked, written out, deleted.

A conversation belongs to one member of one organization; whoever calls has found it by both (`of`).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import models, transaction
from django.utils import timezone

from accounts.models import Organization, User
from billing import usage
from billing.money import format_credits
from proxy.models import Conversation, ConversationMessage

PAGE_SIZE = 30
MAX_MESSAGES = 1_000
MAX_TEXT = 400_000
MAX_IMAGES = 8
TITLE_LENGTH = 60
IMAGE = re.compile(r"data:image/(?:png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+={0,2}")


class ConversationError(Exception):
    """Why a conversation cannot be kept as it is asked."""


class TooLong(ConversationError):
    """There are `MAX_MESSAGES` messages in it."""


class NoSuchMessage(ConversationError):
    """The message is not of this conversation."""


@dataclass(frozen=True, slots=True)
class Said:
    """A message to keep. `request_id` is that of the request which made an answer."""

    role: str
    text: str
    images: tuple[str, ...] = ()
    model: str = ""
    request_id: UUID | None = None
    ending: str = ""


@dataclass(frozen=True, slots=True)
class ConversationPage:
    """Conversations, the latest first; `next` is the cursor of those after them, empty at the end."""

    conversations: list[Conversation]
    next: str


def of(organization: Organization, author: User) -> models.QuerySet[Conversation]:
    """The conversations of a member in an organization."""
    return Conversation.objects.filter(organization=organization, author=author).select_related("organization")


def page(organization: Organization, author: User, *, search: str = "", after: str = "") -> ConversationPage:
    """A page of them; `search` is looked for in titles and in what was said. One query."""
    rows = of(organization, author)
    if search:
        said = ConversationMessage.objects.filter(conversation=models.OuterRef("pk"), text__icontains=search)
        rows = rows.filter(models.Q(title__icontains=search) | models.Exists(said))
    cursor = _cursor(after)
    if cursor is not None:
        at, pk = cursor
        rows = rows.filter(models.Q(updated_at__lt=at) | models.Q(updated_at=at, pk__lt=pk))
    found = list(rows.order_by("-updated_at", "-id")[: PAGE_SIZE + 1])
    last = found[PAGE_SIZE - 1] if len(found) > PAGE_SIZE else None
    return ConversationPage(found[:PAGE_SIZE], f"{last.updated_at.isoformat()}~{last.pk}" if last else "")


def start(
    *, organization: Organization, author: User, model: str, settings: Mapping[str, Any], said: Said
) -> tuple[Conversation, ConversationMessage]:
    """A new conversation with its first message, named after it."""
    with transaction.atomic():
        conversation = Conversation.objects.create(
            organization=organization,
            author=author,
            title=title_of(said.text),
            model=model,
            settings=dict(settings),
        )
        return conversation, _add(conversation, 0, said)


def say(
    *,
    conversation: Conversation,
    said: Said,
    model: str = "",
    settings: Mapping[str, Any] | None = None,
    replaces: UUID | None = None,
) -> ConversationMessage:
    """Add a message at the end, or in place of the message `replaces` and all after it.

    With `model`, the conversation goes on with that model and `settings`. The answer of a request is kept once, however
    often it is sent. Raises `TooLong`, `NoSuchMessage`.
    """
    with transaction.atomic():
        row = Conversation.objects.select_for_update().get(pk=conversation.pk)
        if said.request_id is not None and (kept := row.messages.filter(request_id=said.request_id).first()):
            return kept
        if replaces is not None:
            replaced = row.messages.filter(public_id=replaces).first()
            if replaced is None:
                raise NoSuchMessage
            row.messages.filter(position__gte=replaced.position).delete()
        last = row.messages.aggregate(last=models.Max("position"))["last"]
        position = 0 if last is None else last + 1
        if position >= MAX_MESSAGES:
            raise TooLong
        added = _add(row, position, said)
        row.updated_at = added.created_at
        if model:
            row.model, row.settings = model, dict(settings or {})
        row.save(update_fields=["updated_at", "model", "settings"])
        return added


def rename(*, conversation: Conversation, title: str) -> None:
    conversation.title = _clean(title).strip()[:120]
    conversation.save(update_fields=["title"])


def fork(*, conversation: Conversation, until: UUID) -> Conversation:
    """A new conversation with everything up to and with the message `until`. Raises `NoSuchMessage`."""
    with transaction.atomic():
        last = conversation.messages.filter(public_id=until).first()
        if last is None:
            raise NoSuchMessage
        made = Conversation.objects.create(
            organization_id=conversation.organization_id,
            author_id=conversation.author_id,
            title=f"{conversation.title[:112]} (fork)",
            model=conversation.model,
            settings=conversation.settings,
            forked_from=conversation,
        )
        ConversationMessage.objects.bulk_create(
            ConversationMessage(
                conversation=made,
                position=message.position,
                role=message.role,
                text=message.text,
                images=message.images,
                model=message.model,
                request_id=message.request_id,
                cost_nanos=message.cost_nanos,
                ending=message.ending,
                created_at=message.created_at,
            )
            for message in conversation.messages.filter(position__lte=last.position)
        )
        return made


def delete(*, conversation: Conversation) -> None:
    """For good, with all that was said. What it cost stays in the books."""
    conversation.delete()


def messages_of(conversation: Conversation) -> list[ConversationMessage]:
    """What was said, with every cost that is known by now. One query, or two."""
    said = list(conversation.messages.order_by("position"))
    uncharged = [message for message in said if message.request_id and message.cost_nanos is None]
    if uncharged:
        known = usage.costs(conversation.organization, [message.request_id for message in uncharged])
        for message in uncharged:
            message.cost_nanos = known.get(message.request_id)
    return said


def as_json(conversation: Conversation) -> dict[str, Any]:
    """Everything, with `messages` as a chat completion takes them."""
    said = messages_of(conversation)
    system = conversation.settings.get("system", "")
    return {
        "title": conversation.title,
        "model": conversation.model,
        "settings": conversation.settings,
        "created_at": conversation.created_at.isoformat(),
        "updated_at": conversation.updated_at.isoformat(),
        "cost_credits": format_credits(sum(message.cost_nanos or 0 for message in said)),
        "messages": [
            *([{"role": "system", "content": system}] if system else []),
            *({"role": message.role, "content": content_of(message)} for message in said),
        ],
        "answers": [
            {
                "position": message.position,
                "model": message.model,
                "request_id": f"req_{message.request_id.hex}" if message.request_id else None,
                "cost_credits": None if message.cost_nanos is None else format_credits(message.cost_nanos),
                "ending": message.ending,
                "created_at": message.created_at.isoformat(),
            }
            for message in said
            if message.role == ConversationMessage.Role.ASSISTANT
        ],
    }


def as_markdown(conversation: Conversation) -> str:
    """To be read: a heading for each message."""
    parts = [f"# {conversation.title}", f"Model: {conversation.model}"]
    if system := conversation.settings.get("system"):
        parts += ["## System", system]
    for message in messages_of(conversation):
        is_answer = message.role == ConversationMessage.Role.ASSISTANT
        parts.append(f"## {message.model or 'Assistant'}" if is_answer else "## You")
        parts += [f"![Picture {number}]({image})" for number, image in enumerate(message.images, 1)]
        parts += [message.text] if message.text else []
        if is_answer and message.cost_nanos is not None:
            parts.append(f"*{format_credits(message.cost_nanos)} credits*")
    return "\n\n".join(parts) + "\n"


def content_of(message: ConversationMessage) -> str | list[dict[str, Any]]:
    """A message's `content` as a chat completion takes it."""
    if not message.images:
        return message.text
    pictures = [{"type": "image_url", "image_url": {"url": image}} for image in message.images]
    return [*([{"type": "text", "text": message.text}] if message.text else []), *pictures]


def title_of(text: str) -> str:
    """The first words of what was said."""
    words = " ".join(_clean(text).split())
    return f"{words[: TITLE_LENGTH - 1].rstrip()}…" if len(words) > TITLE_LENGTH else words or "A picture"


def are_images(images: Iterable[object]) -> bool:
    """Whether all are data URLs of pictures."""
    return all(isinstance(image, str) and IMAGE.fullmatch(image) for image in images)


def _add(conversation: Conversation, position: int, said: Said) -> ConversationMessage:
    cost = None
    if said.request_id is not None:
        cost = usage.costs(conversation.organization, [said.request_id]).get(said.request_id)
    return ConversationMessage.objects.create(
        conversation=conversation,
        position=position,
        role=said.role,
        text=_clean(said.text),
        images=list(said.images),
        model=said.model,
        request_id=said.request_id,
        cost_nanos=cost,
        ending=said.ending,
    )


def _clean(text: str) -> str:
    """What PostgreSQL can keep: no NUL, no half of a surrogate pair."""
    return text.replace("\x00", "\ufffd").encode(errors="replace").decode()


def _cursor(after: str) -> tuple[datetime, int] | None:
    at, _, pk = after.partition("~")
    try:
        moment = datetime.fromisoformat(at)
        return (moment, int(pk)) if timezone.is_aware(moment) else None
    except ValueError:
        return None
