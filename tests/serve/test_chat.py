"""Chats with the server, over real HTTP on loopback, with OpenAI's own client."""

import re
from functools import partial

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.cli.generate import Chat
from slm.generate.params import generation_params
from slm.serve.params import MAX_PROMPT, ChatRequest
from slm.sft import chat
from slm.sft.conversations import Turn
from tests.serving import ask_for_three_and_leave, client_of, idle, post, serving, tiny_writer

REQUEST = {"role": "user", "content": "Once"}
ANSWER = {"role": "assistant", "content": "upon a time"}
ENDLESS = {"model": "slm", "messages": [REQUEST], "temperature": 0, "max_tokens": 4096}  # some seconds' work
# The note of `slm generate --chat`.
DROPPED = re.compile(r"\(context full: dropped the first (?:turn|(\d+) turns)\)\n")

post_chat = partial(post, path="/v1/chat/completions")


@pytest.fixture(scope="module")
def running():
    with serving(tiny_writer()) as running:
        yield running


@pytest.fixture
def chats(running):
    with client_of(running) as client:
        yield client.chat.completions


@pytest.fixture
def engine(running):
    with idle(running) as engine:
        yield engine


def test_over_several_turns_each_answer_is_the_terminals_and_as_much_is_forgotten(chats, running, capsys):
    params = generation_params(seed=5, max_new_tokens=3, temperature=0.8)
    talk, messages, n_forgotten = Chat(running.writer), [], 0
    for request in ("Once", "upon", "Once upon a time\nthere was", "a", "a"):
        talk(request, params)
        said = capsys.readouterr().out
        n_forgotten += sum(int(found[1] or 1) for found in DROPPED.finditer(said))
        messages.append({"role": "user", "content": request})
        found = chats.create(model="slm", messages=messages, seed=5, max_tokens=3, temperature=0.8)
        assert DROPPED.sub("", said) == f"{found.choices[0].message.content}\n"
        assert found.forgotten_turns == n_forgotten
        messages.append(found.choices[0].message)
    assert 2 < n_forgotten < 5  # of a block of 16 tokens


def test_the_whole_has_openais_form(chats, running):
    found = chats.create(model="slm", messages=[REQUEST, ANSWER, REQUEST], max_tokens=4, seed=1, n=2)
    assert (found.object, found.model, found.id[:9]) == ("chat.completion", "slm", "chatcmpl-")
    assert [(c.index, c.message.role, c.finish_reason) for c in found.choices] == [
        (0, "assistant", "length"),
        (1, "assistant", "length"),
    ]
    given = running.writer.encode(chat.render([Turn("Once", "upon a time")], "Once"))
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (len(given), 8)


def test_a_stream_says_who_speaks_then_what_and_at_last_why_it_ended(chats):
    request = {"model": "slm", "messages": [REQUEST], "n": 2, "max_tokens": 40, "seed": 3}
    whole = chats.create(**request)
    *chunks, last = chats.create(**request, stream=True, stream_options={"include_usage": True})
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    for choice in whole.choices:
        deltas = [c for chunk in chunks for c in chunk.choices if c.index == choice.index]
        assert [c.delta.role for c in deltas] == ["assistant"] + [None] * (len(deltas) - 1)
        assert "".join(c.delta.content for c in deltas) == choice.message.content
        assert [c.finish_reason for c in deltas] == [None] * (len(deltas) - 1) + [choice.finish_reason]
        assert len(deltas) > 20
    assert (last.choices, last.usage) == ([], whole.usage)


def test_the_clients_own_way_to_join_a_stream_gives_the_whole(chats):
    request = {
        "model": "slm",
        "messages": [REQUEST],
        "stop": ["a", "e", "o", " "],
        "max_tokens": 40,
        "seed": 3,
    }
    with chats.stream(**request) as stream:
        joined = stream.get_final_completion().choices[0]
    whole = chats.create(**request).choices[0]
    assert (joined.message.content, joined.finish_reason) == (whole.message.content, "stop")
    assert joined.message.role == "assistant"


def test_what_shapes_the_draws_does(chats, running):
    def answer(temperature=1.0, **extra):
        how = {"max_tokens": 30, "temperature": temperature, "seed": 4}
        found = chats.create(model="slm", messages=[REQUEST], **how, extra_body=extra)
        return found.choices[0].message.content

    def expected(**how):
        options = {"max_new_tokens": 30, "temperature": 1.0, "seed": 4, **how}
        return running.writer.generate(chat.render([], "Once"), **options)

    assert answer(temperature=0) == answer(top_k=1) == answer(min_p=1.0) == answer(top_p=1e-6)
    assert answer(temperature=0) == expected(temperature=0.0)
    assert answer() == expected()
    assert answer(seed=6) == expected(seed=6) != expected()
    assert answer(max_completion_tokens=5) == expected(max_new_tokens=5)
    assert answer(repetition_penalty=1.5) == expected(repetition_penalty=1.5) != expected()


def test_an_answer_ends_before_a_stop_string_and_frees_its_place(chats, engine):
    text = chats.create(**{**ENDLESS, "max_tokens": 200}).choices[0].message.content
    stop = text[20:23]
    found = chats.create(**ENDLESS, stop=[stop]).choices[0]
    assert (found.message.content, found.finish_reason) == (text[: text.index(stop)], "stop")


def test_values_without_effect_are_allowed_as_clients_send_them(running):
    without = {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "logprobs": False}
    none = {"max_completion_tokens": None, "tools": None, "stop": None}
    answer = {**ANSWER, "refusal": None, "tool_calls": None}
    body = {"messages": [REQUEST, answer, REQUEST], "max_tokens": 2, **without, **none}
    assert post_chat(running.url, body)[0] == 200


@pytest.mark.parametrize("body, param, message", [
    ({}, "messages", "messages: missing"),
    ({"messages": []}, "messages", "messages: the roles must be user and assistant in turn"),
    ({"messages": [REQUEST, REQUEST]}, "messages", "got ['user', 'user']"),
    ({"messages": [REQUEST, ANSWER]}, "messages", "in turn, the first and the last user"),
    ({"messages": [{"role": "system", "content": "Be brief."}, REQUEST]}, "messages.0.role",
     "messages.0.role: must be 'user' or 'assistant', got 'system'"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Once"}]}]}, "messages.0.content",
     "messages.0.content: must be a valid string, got [{...}]"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages.0.content", "lone surrogate"),
    ({"messages": [{**REQUEST, "name": "Ann"}]}, "messages.0.name", "messages.0.name: unknown key"),
    ({"messages": [{**REQUEST, "content": "a " * (MAX_PROMPT + 1)}]}, "messages", f"{MAX_PROMPT} tokens"),
    ({"messages": [REQUEST], "logprobs": True}, "logprobs", "logprobs: unknown key; must be one of model"),
    ({"messages": [REQUEST], "tools": [{}]}, "tools", "tools: unknown key; must be one of model"),
    ({"messages": [REQUEST], "n": 65}, "n", "n: must be less than or equal to 64, got 65"),
    ({"messages": [REQUEST], "max_completion_tokens": 0}, "max_completion_tokens", "must be greater"),
])  # fmt: skip
def test_a_bad_request_is_refused_with_the_reason_in_openais_form(body, param, message, running):
    status, answer = post_chat(running.url, body)
    error = answer["error"]
    assert (status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert message in error["message"]


def test_refusals_are_the_exceptions_of_openais_client(chats):
    system = {"role": "system", "content": "You are a pirate."}
    with pytest.raises(openai.BadRequestError, match="must be 'user' or 'assistant', got 'system'"):
        chats.create(model="slm", messages=[system, REQUEST], stream=True)
    with pytest.raises(openai.NotFoundError, match="'gpt-4' is not served; served: slm"):
        chats.create(model="gpt-4", messages=[REQUEST])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": JSON}))
BODIES = st.fixed_dictionaries(
    {"messages": MESSAGES | JSON},
    optional={name: JSON for name in [*ChatRequest.model_fields, "tools"] if name != "messages"},
)


@given(BODIES)
@settings(max_examples=40, deadline=None)
def test_no_body_whatever_makes_the_server_fail(running, body):
    assert post_chat(running.url, {**body, "stream": False, "max_tokens": 2})[0] in (200, 400, 404)


WORDS = st.lists(st.sampled_from(["Once", "upon a time", "🦆", "\n\n", ">", ""]), max_size=4).map(" ".join)


@given(st.lists(st.builds(Turn, WORDS, WORDS), max_size=9), WORDS)
def test_the_fewest_turns_are_left_out_that_let_the_model_see_the_rest(running, turns, request):
    lengths = [len(running.writer.encode(chat.render(turns[n:], request))) for n in range(len(turns) + 1)]
    in_sight = [n for n, length in enumerate(lengths) if 1 + length <= running.writer.model.params.block_size]
    sizes = running.writer.n_tokens, running.writer.model.params.block_size
    assert chat.n_dropped(turns, request, *sizes) == min(in_sight, default=len(turns))


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_places(stream, running, engine):
    ask_for_three_and_leave(running, engine, "/v1/chat/completions", {**ENDLESS, "stream": stream})
