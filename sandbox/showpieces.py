"""A few pictures and conversations of the demo, each by a request of its past."""

from uuid import UUID, uuid5

from accounts.models import Organization, User
from billing.teller import Capture
from gallery import keeping
from gallery.keeping import Made
from gallery.models import Visibility
from proxy import conversations
from proxy.conversations import Said
from sandbox.provider import images

CHAT, IMAGES = "/v1/chat/completions", "/v1/images/generations"
SIZE = 1024
# What was asked, and who may see it.
PICTURES = (
    ("A lighthouse on a cliff, flat colours, dawn", Visibility.PUBLIC),
    ("Isometric kitchen, cutaway, soft light", Visibility.PUBLIC),
    ("A copper coin on dark slate, macro photograph", Visibility.PUBLIC),
    ("Icon of a paper plane, two colours, no text", Visibility.PRIVATE),
)
CONVERSATIONS = (
    (
        "How do I retry a request without being charged twice?",
        "Send the same `Idempotency-Key` with both. Within 24 hours the second is answered from the first one's result "
        "and charged once. (A simulated answer, from the demo's past.)",
    ),
    (
        "Name three uses of embeddings in a web shop, in one line each.",
        "- Search by meaning\n- Products like this one\n- Finding duplicate reviews\n\n"
        "(A simulated answer, from the demo's past.)",
    ),
)


def hang(requests: list[Capture]) -> None:
    """Put the pictures into the gallery: those of the last requests for one."""
    asked = [one for one in requests if one.endpoint == IMAGES and one.cost][-len(PICTURES) :]
    keeping.keep([_made(request, prompt, seen_by) for request, (prompt, seen_by) in zip(asked, PICTURES, strict=False)])


def tell(requests: list[Capture], *, organization: Organization, author: User) -> None:
    """Keep the conversations, as answered by the organization's own last chats."""
    asked = [one for one in requests if one.endpoint == CHAT and one.cost and not one.end_user][-len(CONVERSATIONS) :]
    for request, (question, answer) in zip(asked, CONVERSATIONS, strict=False):
        conversation, _ = conversations.start(
            organization=organization, author=author, model=request.model, settings={}, said=Said("user", question)
        )
        answered = Said("assistant", answer, model=request.model, request_id=request.request_id)
        conversations.say(conversation=conversation, said=answered)


def _made(request: Capture, prompt: str, visibility: str) -> Made:
    data = images.render(prompt, SIZE, SIZE)
    return Made(
        public_id=_image_id(request.request_id),
        organization_id=request.organization_id,
        key_id=request.key_id or 0,
        request_id=request.request_id,
        data=data,
        media_type=keeping.sniff(data),
        prompt=prompt,
        model=request.model,
        size=f"{SIZE}x{SIZE}",
        quality="medium",
        seed=None,
        cost_nanos=request.cost,
        end_user=request.end_user,
        visibility=visibility,
    )


def _image_id(request_id: UUID) -> UUID:
    return uuid5(request_id, "image")
