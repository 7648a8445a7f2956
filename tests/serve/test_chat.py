"""Chat completions, over HTTP on loopback, with OpenAI's client."""

import re
from functools import partial

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.cli.generate import Chat
from slm.generate.params import generation_params
from slm.serve.params import MAX_PROMPT_TOKENS, ChatRequest
from slm.sft.conversations import Turn, n_dropped, render
from tests.server import check_disconnect_aborts, idle_engine, openai_client, post, serving, tiny_generator

PROMPT = {"role": "user", "content": "Once"}
ANSWER = {"role": "assistant", "content": "upon a time"}
# A request that takes some seconds.
LONG = {"model": "slm", "messages": [PROMPT], "temperature": 0, "max_tokens": 4096}
# The note of `slm generate --chat`.
DROPPED = re.compile(r"\(context full: dropped the first (?:turn|(\d+) turns)\)\n")

post_chat = partial(post, path="/v1/chat/completions")


@pytest.fixture(scope="module")
def running():
    with serving(tiny_generator()) as running:
        yield running


@pytest.fixture
def chat_completions(running):
    with openai_client(running) as client:
        yield client.chat.completions


@pytest.fixture
def engine(running):
    with idle_engine(running) as engine:
        yield engine


def test_conversation_equals_that_of_slm_generate(chat_completions, running, capsys):
    params = generation_params(seed=5, max_new_tokens=3, temperature=0.8)
    terminal_chat, messages, n_forgotten = Chat(running.generator), [], 0
    for prompt in ("Once", "upon", "Once upon a time\nthere was", "a", "a"):
        terminal_chat(prompt, params)
        printed = capsys.readouterr().out
        n_forgotten += sum(int(match[1] or 1) for match in DROPPED.finditer(printed))
        messages.append({"role": "user", "content": prompt})
        response = chat_completions.create(
            model="slm", messages=messages, seed=5, max_tokens=3, temperature=0.8
        )
        assert DROPPED.sub("", printed) == f"{response.choices[0].message.content}\n"
        assert response.forgotten_turns == n_forgotten
        messages.append(response.choices[0].message)
    # The context of 16 tokens is too short for all turns.
    assert 2 < n_forgotten < 5


def test_response_has_openai_format(chat_completions, running):
    response = chat_completions.create(
        model="slm", messages=[PROMPT, ANSWER, PROMPT], max_tokens=4, seed=1, n=2
    )
    assert (response.object, response.model, response.id[:9]) == ("chat.completion", "slm", "chatcmpl-")
    assert [(c.index, c.message.role, c.finish_reason) for c in response.choices] == [
        (0, "assistant", "length"),
        (1, "assistant", "length"),
    ]
    prompt_ids = running.generator.encode(render([Turn("Once", "upon a time")], "Once"))
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (len(prompt_ids), 8)


def test_stream_has_role_content_and_finish_reason(chat_completions):
    request = {"model": "slm", "messages": [PROMPT], "n": 2, "max_tokens": 40, "seed": 3}
    complete = chat_completions.create(**request)
    *chunks, last = chat_completions.create(**request, stream=True, stream_options={"include_usage": True})
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    for choice in complete.choices:
        deltas = [c for chunk in chunks for c in chunk.choices if c.index == choice.index]
        assert [c.delta.role for c in deltas] == ["assistant"] + [None] * (len(deltas) - 1)
        assert "".join(c.delta.content for c in deltas) == choice.message.content
        assert [c.finish_reason for c in deltas] == [None] * (len(deltas) - 1) + [choice.finish_reason]
        assert len(deltas) > 20
    assert (last.choices, last.usage) == ([], complete.usage)


def test_openai_client_joins_the_stream(chat_completions):
    request = {
        "model": "slm",
        "messages": [PROMPT],
        "stop": ["a", "e", "o", " "],
        "max_tokens": 40,
        "seed": 3,
    }
    with chat_completions.stream(**request) as stream:
        joined = stream.get_final_completion().choices[0]
    complete = chat_completions.create(**request).choices[0]
    assert (joined.message.content, joined.finish_reason) == (complete.message.content, "stop")
    assert joined.message.role == "assistant"


def test_sampling_parameters_take_effect(chat_completions, running):
    def answer(temperature=1.0, **extra):
        options = {"max_tokens": 30, "temperature": temperature, "seed": 4}
        response = chat_completions.create(model="slm", messages=[PROMPT], **options, extra_body=extra)
        return response.choices[0].message.content

    def expected(**changes):
        options = {"max_new_tokens": 30, "temperature": 1.0, "seed": 4, **changes}
        return running.generator.generate(render([], "Once"), **options)

    assert answer(temperature=0) == answer(top_k=1) == answer(min_p=1.0) == answer(top_p=1e-6)
    assert answer(temperature=0) == expected(temperature=0.0)
    assert answer() == expected()
    assert answer(seed=6) == expected(seed=6) != expected()
    assert answer(max_completion_tokens=5) == expected(max_new_tokens=5)
    assert answer(repetition_penalty=1.5) == expected(repetition_penalty=1.5) != expected()


def test_stop_string_ends_the_text_and_the_sequence(chat_completions, engine):
    text = chat_completions.create(**{**LONG, "max_tokens": 200}).choices[0].message.content
    stop = text[20:23]
    choice = chat_completions.create(**LONG, stop=[stop]).choices[0]
    assert (choice.message.content, choice.finish_reason) == (text[: text.index(stop)], "stop")


def test_ignored_fields_are_accepted_with_their_defaults(running):
    defaults = {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "logprobs": False}
    nulls = {"max_completion_tokens": None, "tools": None, "stop": None}
    answer = {**ANSWER, "refusal": None, "tool_calls": None}
    body = {"messages": [PROMPT, answer, PROMPT], "max_tokens": 2, **defaults, **nulls}
    assert post_chat(running.url, body)[0] == 200


@pytest.mark.parametrize("body, param, message", [
    ({}, "messages", "messages: missing"),
    ({"messages": []}, "messages", "messages: the roles must be user and assistant in turn"),
    ({"messages": [PROMPT, PROMPT]}, "messages", "got ['user', 'user']"),
    ({"messages": [PROMPT, ANSWER]}, "messages", "in turn, the first and the last user"),
    ({"messages": [{"role": "system", "content": "Be brief."}, PROMPT]}, "messages.0.role",
     "messages.0.role: must be 'user' or 'assistant', got 'system'"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Once"}]}]}, "messages.0.content",
     "messages.0.content: must be a valid string, got [{...}]"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages.0.content", "lone surrogate"),
    ({"messages": [{**PROMPT, "name": "Ann"}]}, "messages.0.name", "messages.0.name: unknown key"),
    ({"messages": [{**PROMPT, "content": "a " * (MAX_PROMPT_TOKENS + 1)}]}, "messages",
     f"{MAX_PROMPT_TOKENS} tokens"),
    ({"messages": [PROMPT], "logprobs": True}, "logprobs", "logprobs: unknown key; must be one of model"),
    ({"messages": [PROMPT], "tools": [{}]}, "tools", "tools: unknown key; must be one of model"),
    ({"messages": [PROMPT], "n": 65}, "n", "n: must be less than or equal to 64, got 65"),
    ({"messages": [PROMPT], "max_completion_tokens": 0}, "max_completion_tokens", "must be greater"),
])  # fmt: skip
def test_invalid_request_is_refused_in_openai_format(body, param, message, running):
    status, answer = post_chat(running.url, body)
    error = answer["error"]
    assert (status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert message in error["message"]


def test_openai_client_raises_its_exceptions(chat_completions):
    system = {"role": "system", "content": "You are a pirate."}
    with pytest.raises(openai.BadRequestError, match="must be 'user' or 'assistant', got 'system'"):
        chat_completions.create(model="slm", messages=[system, PROMPT], stream=True)
    with pytest.raises(openai.NotFoundError, match="model: must be 'slm', got 'gpt-4'"):
        chat_completions.create(model="gpt-4", messages=[PROMPT])


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
def test_any_body_is_answered_or_refused(running, body):
    assert post_chat(running.url, {**body, "stream": False, "max_tokens": 2})[0] in (200, 400, 404)


WORDS = st.lists(st.sampled_from(["Once", "upon a time", "🦆", "\n\n", ">", ""]), max_size=4).map(" ".join)


@given(st.lists(st.builds(Turn, WORDS, WORDS), max_size=9), WORDS)
def test_as_few_turns_as_necessary_are_dropped(running, turns, prompt):
    lengths = [len(running.generator.encode(render(turns[n:], prompt))) for n in range(len(turns) + 1)]
    fitting = [
        n for n, length in enumerate(lengths) if 1 + length <= running.generator.model.params.block_size
    ]
    limits = running.generator.count_tokens, running.generator.model.params.block_size
    assert n_dropped(turns, prompt, *limits) == min(fitting, default=len(turns))


@pytest.mark.parametrize("stream", [False, True])
def test_disconnect_aborts_the_sequences(stream, running, engine):
    check_disconnect_aborts(running, engine, "/v1/chat/completions", {**LONG, "stream": stream})
