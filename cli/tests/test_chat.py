"""`pixie chat`, once and as a conversation in a terminal."""

import time

from tests.conftest import Answer, Asked, Pixie, Server
from tests.scripts import events, said
from tests.terminal import Terminal

CHAT = "/v1/chat/completions"


def test_a_chat_streams_to_stdout_and_its_cost_to_stderr(pixie: Pixie, server: Server) -> None:
    server.on("POST", CHAT, said("two ", "pence"))
    done = pixie("chat", "hello", "--system", "Be brief.", "--max-tokens", "9", "--temperature", "0")
    assert done.out == "two pence\n"
    assert "7 tokens · 0.50 credits · 9.50 left · req_9" in done.err
    assert server.asked[0].json == {
        "model": "gpt-fast",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 9,
        "temperature": 0,
    }
    assert pixie("chat", "hello", "-q").err == ""
    told = pixie("chat", "hello", "--json").json
    assert (told["content"], told["cost_credits"], told["finish_reason"]) == ("two pence", "0.5000", "stop")


def test_stdin_is_added_to_the_question(pixie: Pixie, server: Server) -> None:
    server.on("POST", CHAT, said("x"))
    pixie("chat", "Summarise:", stdin="a long text\n")
    assert server.asked[-1].json["messages"][0]["content"] == "Summarise:\n\na long text"
    pixie("chat", stdin="only this")
    pixie("chat", "-", stdin="only this")
    assert server.asked[-1].json == server.asked[-2].json
    assert pixie("chat", stdin="").code == 2


def test_an_answer_cannot_steer_the_terminal(pixie: Pixie, server: Server) -> None:
    server.on("POST", CHAT, said("a\x1b]0;x\x07b\n"))
    assert pixie("chat", "x").out == "a]0;xb\n"


def test_an_answer_that_breaks_off_is_an_error(pixie: Pixie, server: Server) -> None:
    server.on("POST", CHAT, events({"choices": [{"delta": {"content": "two"}}]}, comments=""))
    done = pixie("chat", "x")
    assert (done.code, "broke off" in done.err) == (8, True)
    server.on("POST", CHAT, events({"error": {"message": "cut", "code": "upstream_error"}}))
    assert pixie("chat", "x").code == 8


def test_a_conversation_in_a_terminal(pixie: Pixie, server: Server) -> None:
    bad = Answer({"error": {"message": "no such thing", "code": "invalid_value"}}, 400)
    server.on("POST", CHAT, said("two pence"), bad, said("three pence"))
    with Terminal(pixie, "chat", "--system", "s") as terminal:
        terminal.until("/exit")
        terminal.type("hello")
        terminal.until("req_9")
        terminal.type("again")
        terminal.until("no such thing")
        terminal.type("once more")
        terminal.until("three pence")
        terminal.until("req_9")
        terminal.type("/cost")
        terminal.until("1.00 credits so far")
        terminal.type("/new")
        terminal.until("A new conversation")
        terminal.type("/exit")
        assert terminal.ended() == 0
    assert [one["content"] for one in server.asked[-1].json["messages"]] == ["s", "hello", "two pence", "once more"]


def test_control_c_stops_an_answer_and_not_the_conversation(pixie: Pixie, server: Server) -> None:
    def slow(asked: Asked) -> Answer:
        time.sleep(3)
        return said("late")

    server.on("POST", CHAT, slow)
    with Terminal(pixie, "chat") as terminal:
        terminal.until("/exit")
        terminal.type("hello")
        while not server.asked:
            time.sleep(0.05)
        terminal.send("\x03")
        terminal.until("Stopped")
        terminal.until("› ")
        assert terminal.ended(while_sending="\x04") == 0
    with Terminal(pixie, "chat", "hello") as terminal:
        while len(server.asked) < 2:
            time.sleep(0.05)
        terminal.send("\x03")
        assert terminal.ended() == 130
