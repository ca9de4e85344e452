from uuid import uuid4

import pytest

from accounts.tests.factories import OrganizationFactory, UserFactory
from proxy import conversations
from proxy.conversations import NoSuchMessage, Said, TooLong
from proxy.models import Conversation, ConversationMessage

pytestmark = pytest.mark.django_db

PICTURE = "data:image/png;base64,iVBORw0KGgo="


def question(text: str = "What is a tuppence?", **fields) -> Said:
    return Said(role="user", text=text, **fields)


def answer(text: str = "Two pence.", **fields) -> Said:
    return Said(role="assistant", text=text, model="gpt-fast", **fields)


def begun(organization=None, author=None, **fields) -> Conversation:
    made, _ = conversations.start(
        organization=organization or OrganizationFactory(),
        author=author or UserFactory(),
        model=fields.pop("model", "gpt-fast"),
        settings=fields.pop("settings", {}),
        said=fields.pop("said", question()),
    )
    return made


def texts(conversation: Conversation) -> list[str]:
    return [message.text for message in conversations.messages_of(conversation)]


def test_a_conversation_is_named_after_its_first_words():
    assert begun(said=question("  What\n is  this? ")).title == "What is this?"
    long = begun(said=question("word " * 100)).title
    assert (len(long) <= conversations.TITLE_LENGTH, long.endswith("…")) == (True, True)
    assert begun(said=question("", images=(PICTURE,))).title == "A picture"


def test_messages_follow_each_other_and_settings_go_along():
    one = begun()
    conversations.say(conversation=one, said=answer())
    conversations.say(conversation=one, said=question("And a shilling?"), model="gpt-full", settings={"top_p": 0.5})
    one.refresh_from_db()
    assert texts(one) == ["What is a tuppence?", "Two pence.", "And a shilling?"]
    assert (one.model, one.settings) == ("gpt-full", {"top_p": 0.5})
    conversations.say(conversation=one, said=answer("Twelve pence."))
    one.refresh_from_db()
    assert (one.model, one.settings) == ("gpt-full", {"top_p": 0.5})


def test_a_retry_takes_the_place_of_an_answer_and_of_all_after_it():
    one = begun()
    first = conversations.say(conversation=one, said=answer("Wrong."))
    conversations.say(conversation=one, said=question("Sure?"))
    conversations.say(conversation=one, said=answer("Right."), replaces=first.public_id)
    assert texts(one) == ["What is a tuppence?", "Right."]
    with pytest.raises(NoSuchMessage):
        conversations.say(conversation=one, said=answer(), replaces=first.public_id)


def test_an_answer_that_is_sent_twice_is_kept_once():
    one = begun()
    wrong = conversations.say(conversation=one, said=answer("Wrong."))
    right = answer("Right.", request_id=uuid4())
    kept = conversations.say(conversation=one, said=right, replaces=wrong.public_id)
    assert conversations.say(conversation=one, said=right, replaces=wrong.public_id) == kept
    assert texts(one) == ["What is a tuppence?", "Right."]


def test_a_message_of_another_conversation_replaces_nothing():
    one, other = begun(), begun()
    theirs = conversations.say(conversation=other, said=answer())
    with pytest.raises(NoSuchMessage):
        conversations.say(conversation=one, said=answer(), replaces=theirs.public_id)
    with pytest.raises(NoSuchMessage):
        conversations.fork(conversation=one, until=theirs.public_id)
    assert texts(other) == ["What is a tuppence?", "Two pence."]


def test_a_fork_has_what_was_said_until_then_and_lives_alone():
    one = begun(settings={"system": "Be brief."})
    until = conversations.say(conversation=one, said=answer())
    conversations.say(conversation=one, said=question("More?"))
    forked = conversations.fork(conversation=one, until=until.public_id)
    assert texts(forked) == ["What is a tuppence?", "Two pence."]
    assert (forked.author, forked.organization, forked.settings) == (one.author, one.organization, one.settings)
    assert forked.title == "What is a tuppence? (fork)"
    conversations.say(conversation=forked, said=question("Else?"))
    conversations.delete(conversation=one)
    forked.refresh_from_db()
    assert forked.forked_from is None
    assert texts(forked) == ["What is a tuppence?", "Two pence.", "Else?"]


def test_deleting_leaves_nothing_behind():
    one = begun()
    conversations.delete(conversation=one)
    assert not ConversationMessage.objects.exists()


def test_a_conversation_has_an_end(monkeypatch):
    monkeypatch.setattr(conversations, "MAX_MESSAGES", 2)
    one = begun()
    conversations.say(conversation=one, said=answer())
    with pytest.raises(TooLong):
        conversations.say(conversation=one, said=question())


def test_what_postgresql_cannot_keep_is_replaced():
    one = begun(said=question("a\x00b\ud800"))
    assert texts(one) == ["a\ufffdb?"]
    conversations.rename(conversation=one, title="x\x00")
    assert one.title == "x\ufffd"


def test_only_the_authors_own_are_found(django_assert_num_queries):
    organization, ada, bob = OrganizationFactory(), UserFactory(), UserFactory()
    mine = begun(organization, ada)
    begun(organization, bob)
    begun(OrganizationFactory(), ada)
    with django_assert_num_queries(1):
        assert conversations.page(organization, ada).conversations == [mine]
    assert list(conversations.of(organization, ada)) == [mine]


def test_search_finds_titles_and_what_was_said():
    organization, ada = OrganizationFactory(), UserFactory()
    sky, grass = (begun(organization, ada, said=question(f"The {what}?")) for what in ("sky", "grass"))
    conversations.say(conversation=sky, said=answer("It is BLUE, 100%."))

    def found(search: str) -> list[Conversation]:
        return conversations.page(organization, ada, search=search).conversations

    assert found("blue") == [sky]
    assert found("grass") == [grass]
    assert found("%") == [sky]
    assert found("the") == [sky, grass]  # the one that was spoken in last comes first
    assert found("pence") == []


def test_pages_have_every_conversation_once(monkeypatch):
    monkeypatch.setattr(conversations, "PAGE_SIZE", 2)
    organization, ada = OrganizationFactory(), UserFactory()
    made = [begun(organization, ada) for _ in range(5)]
    seen, after = [], ""
    while True:
        page = conversations.page(organization, ada, after=after)
        seen += page.conversations
        after = page.next
        if not after:
            break
    assert seen == made[::-1]
    assert conversations.page(organization, ada, after="nonsense").conversations == seen[:2]


def test_exports_can_be_sent_again_and_read():
    one = begun(settings={"system": "Be brief."}, said=question("Look", images=(PICTURE,)))
    conversations.say(conversation=one, said=answer(ending="stop", request_id=uuid4()))
    told = conversations.as_json(one)
    assert told["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": PICTURE}}],
        },
        {"role": "assistant", "content": "Two pence."},
    ]
    assert told["answers"][0]["cost_credits"] is None  # no such request was charged
    text = conversations.as_markdown(one)
    assert text.startswith("# Look\n\nModel: gpt-fast\n\n## System\n\nBe brief.\n\n## You\n\n")
    assert text.endswith("## gpt-fast\n\nTwo pence.\n")


@pytest.mark.parametrize(
    "image",
    [
        "https://elsewhere.example/a.png",
        "data:image/svg+xml;base64,AAAA",
        "data:text/html;base64,AAAA",
        'data:image/png;base64,AA"><script>',
        7,
    ],
)
def test_only_pictures_in_data_urls_are_kept(image):
    assert not conversations.are_images([PICTURE, image])
    assert conversations.are_images([PICTURE])
