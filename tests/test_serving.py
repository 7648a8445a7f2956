"""The server, over real HTTP on loopback, mostly with OpenAI's own client."""

import asyncio
import json
import re
from http.client import HTTPConnection
from itertools import pairwise
from urllib.parse import urlsplit

import openai
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.serve import load
from slm.serving import engine as engines
from slm.serving.params import MAX_BYTES, MAX_PROMPT, CompletionRequest
from slm.text.generate import generate
from slm.tokens.tokenizer import encode
from tests.serving import serving, tiny_writer, wait_for
from tests.tiny import sample_params

ENDLESS = {"model": "slm", "prompt": "", "temperature": 0, "max_tokens": 4096}  # some seconds' work


@pytest.fixture(scope="module")
def running():
    with serving(tiny_writer()) as running:
        yield running


@pytest.fixture
def client(running):
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def engine(running):
    """It has nothing to do before a test, and must have nothing to do after it."""
    engine = running.server.engine
    wait_for(lambda: engine.n_texts == 0)
    yield engine
    wait_for(lambda: engine.n_texts == 0)


def alone(writer, prompt="", **changes):
    """What each sample of a prompt is, written without a server."""
    params = sample_params(**{"num_samples": 1, "max_new_tokens": 16, **changes})
    texts = generate(writer.model, [encode(writer.tokenizer, prompt)], params, writer.end_of_text)
    return [writer.tokenizer.decode(ids) for ids in texts[0]]


def post(url, body, path="/v1/completions", method="POST", kind="application/json"):
    """The status and the JSON that a body is answered with; bytes are sent as they are."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, body, {"Content-Type": kind})
        response = connection.getresponse()
        assert response.headers["Access-Control-Allow-Origin"] is None
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def joined(chunks):
    """Of a stream: each choice's text and why it ended, and the last chunk's counts."""
    texts, reasons, usage = {}, {}, None
    for chunk in chunks:
        usage = chunk.usage
        for choice in chunk.choices:
            assert choice.index not in reasons, "more comes after the end"
            texts[choice.index] = texts.get(choice.index, "") + choice.text
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    return texts, reasons, usage


def test_each_choice_is_the_sample_that_the_library_writes_of_its_prompt(client, running):
    prompts = ["Once upon", ""]
    found = client.completions.create(
        model="slm", prompt=prompts, n=3, max_tokens=40, temperature=0.8, seed=5
    )
    expected = [
        text
        for prompt in prompts
        for text in alone(running.writer, prompt, num_samples=3, max_new_tokens=40, temperature=0.8, seed=5)
    ]
    assert [choice.index for choice in found.choices] == list(range(6))
    assert [choice.text for choice in found.choices] == expected
    assert found.object == "text_completion"
    assert found.usage.prompt_tokens == len(encode(running.writer.tokenizer, "Once upon"))
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens


def test_a_stream_has_the_same_texts_reasons_and_counts(client):
    request = {"model": "slm", "prompt": ["Once", "far"], "n": 2, "max_tokens": 100, "seed": 3}
    whole = client.completions.create(**request)
    texts, reasons, usage = joined(
        client.completions.create(**request, stream=True, stream_options={"include_usage": True})
    )
    assert texts == {choice.index: choice.text for choice in whole.choices}
    assert reasons == {choice.index: choice.finish_reason for choice in whole.choices}
    assert usage == whole.usage


def test_a_text_ends_by_the_model_or_by_its_length(client, running):
    found = client.completions.create(model="slm", prompt="", n=30, max_tokens=150, seed=1)
    assert {choice.finish_reason for choice in found.choices} == {"stop", "length"}
    params = sample_params(num_samples=30, max_new_tokens=150)
    lengths = [
        len(ids) for ids in generate(running.writer.model, [[]], params, running.writer.end_of_text)[0]
    ]
    assert [c.finish_reason == "length" for c in found.choices] == [length == 150 for length in lengths]
    assert found.usage.completion_tokens == sum(lengths)


@pytest.mark.parametrize("stream", [False, True])
@torch.no_grad()
def test_logprobs_are_those_of_the_model(stream, client, running):
    writer = running.writer
    request = {"model": "slm", "prompt": "Once", "max_tokens": 12, "temperature": 2, "top_k": 5, "seed": 1}
    top_k = {"extra_body": {"top_k": request.pop("top_k")}}
    answer = client.completions.create(**request, **top_k, logprobs=3, stream=stream)
    choices = [chunk.choices[0] for chunk in answer] if stream else answer.choices
    text = "".join(choice.text for choice in choices)
    all_of = {
        key: [one for choice in choices for one in getattr(choice.logprobs, key)]
        for key in ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    }
    ids = [writer.end_of_text, *encode(writer.tokenizer, "Once")]
    for name, logprob, top, _ in zip(*all_of.values(), strict=True):
        expected = writer.model(torch.tensor([ids]))[0, -1].log_softmax(-1)
        assert sorted(top.values())[-3:] == pytest.approx(sorted(expected.topk(3).values.tolist()), abs=1e-3)
        assert top[name] == logprob
        assert len(top) in (3, 4)
        token = next(
            i for i in expected.topk(6).indices.tolist() if expected[i] == pytest.approx(logprob, abs=1e-3)
        )
        ids.append(token)
    assert len(all_of["tokens"]) == 12
    spans = [text[start:stop] for start, stop in pairwise([*all_of["text_offset"], len(text)])]
    for name, span in zip(all_of["tokens"], spans, strict=True):
        assert span.endswith(name) or name.startswith("bytes:")


def test_a_choice_ends_before_a_stop_string_and_frees_its_place(client, engine):
    text = client.completions.create(**{**ENDLESS, "max_tokens": 400}).choices[0].text
    stop = re.search("[a-z]{3}", text[20:])[0]
    for stream in (False, True):
        answer = client.completions.create(**ENDLESS, stop=[stop, "never written"], stream=stream)
        found, reasons, _ = joined(answer if stream else [answer])
        assert found[0] == text[: text.index(stop)]
        assert reasons[0] == "stop"


def test_a_seed_repeats_a_text_and_without_one_each_is_another(client):
    def texts(**seed):
        return {
            client.completions.create(model="slm", prompt="", max_tokens=30, **seed).choices[0].text
            for _ in range(3)
        }

    assert len(texts(seed=7)) == 1
    assert len(texts()) == 3


def test_what_shapes_the_draws_does(client, running):
    def text(temperature=1.0, **extra):
        options = {"max_tokens": 30, "temperature": temperature, "seed": 4, "extra_body": extra}
        return client.completions.create(model="slm", prompt="Once", **options).choices[0].text

    greedy = alone(running.writer, "Once", max_new_tokens=30, temperature=0.0)[0]
    assert text(temperature=0) == text(top_k=1) == text(min_p=1.0) == text(top_p=1e-6) == greedy
    free = alone(running.writer, "Once", max_new_tokens=30, seed=4)[0]
    assert text() == text(top_k=0) == text(top_k=-1) == free
    penalized = alone(running.writer, "Once", max_new_tokens=30, seed=4, repetition_penalty=1.5)[0]
    assert text(repetition_penalty=1.5) == penalized != free


def test_the_model_is_listed(client):
    assert [model.id for model in client.models.list()] == ["slm"]


def test_values_without_effect_are_allowed_as_clients_send_them(running):
    without = {"best_of": 1, "echo": False, "presence_penalty": 0, "frequency_penalty": 0.0, "suffix": None}
    body = {"prompt": None, "logit_bias": {}, "stop": None, "logprobs": None, "seed": 1, **without}
    status, answer = post(running.url, body)
    assert (status, answer["choices"][0]["text"]) == (200, alone(running.writer)[0])


@pytest.mark.parametrize("body, param, message", [
    (b"{", None, "the body is not valid JSON: Expecting property name enclosed in double quotes"),
    (b'{"n": 1e999}', "n", "n: inf should be a valid integer"),
    (b"\xff", None, "There was an error parsing the body"),
    (b"[" * 100_000, None, "There was an error parsing the body"),
    (b"", None, "the body: Field required"),
    ([], None, "the body: [] should be a valid dictionary or object to extract fields from"),
    ({"prompt": 3}, "prompt", "prompt: 3 is not allowed; allowed: a string or a list of strings"),
    ({"prompt": [1, 2]}, "prompt", "prompt: [1, 2] is not allowed; allowed: a string or a list of strings"),
    ({"prompt": []}, None, "1 texts for each of 0 prompts; allowed: 1 to 64 in all"),
    ({"prompt": "\ud800"}, "prompt", "prompt: '\\ud800' has half a surrogate pair"),
    ({"prompt": ["a"] * 9, "n": 8}, None, "8 texts for each of 9 prompts; allowed: 1 to 64 in all"),
    ({"n": 65}, "n", "n: 65 should be less than or equal to 64"),
    ({"max_tokens": 0}, "max_tokens", "max_tokens: 0 should be greater than or equal to 1"),
    ({"max_tokens": "many"}, "max_tokens", "max_tokens: 'many' should be a valid integer"),
    ({"max_tokens": 5000}, "max_tokens", "max_tokens: 5000 should be less than or equal to 4096"),
    ({"temperature": -1}, "temperature", "temperature: -1 should be greater than or equal to 0"),
    (b'{"temperature": NaN}', "temperature", "temperature: nan should be a finite number"),
    ({"seed": -1}, "seed", "seed: -1 should be greater than or equal to 0"),
    ({"logprobs": 11}, "logprobs", "logprobs: 11 should be less than or equal to 10"),
    ({"stop": ["a"] * 5}, "stop", " should have at most 4 items after validation, not 5"),
    ({"stop": ""}, "stop.0", "stop.0: '' should have at least 1 character"),
    ({"echo": True}, "echo", "echo is not supported; supported: model, prompt, n, "),
    ({"presence_penalty": 0.5}, "presence_penalty", "presence_penalty is not supported"),
    ({"\ud800": 1}, None, "the body: '\\ud800' should be a valid string"),
    ({"x": 1, "y": 2}, "x", "x is not supported; supported: model"),
    ({"n": 0, "top_p": 2}, "n", "greater than or equal to 1; top_p: 2 should be less than or equal to 1"),
    ({"prompt": "a " * (MAX_PROMPT + 1)}, "prompt", f"tokens; allowed: {MAX_PROMPT}"),
])  # fmt: skip
def test_a_bad_request_is_refused_with_the_reason_in_openais_form(body, param, message, running):
    status, answer = post(running.url, body)
    assert (status, answer.keys()) == (400, {"error"})
    error = answer["error"]
    assert message in error["message"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, None)


def test_refusals_are_the_exceptions_of_openais_client(client):
    with pytest.raises(openai.BadRequestError, match=r"temperature: 3\.0 should be less than") as caught:
        client.completions.create(model="slm", prompt="", temperature=3.0)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.NotFoundError, match="'gpt-4' is not served; served: slm") as caught:
        client.completions.create(model="gpt-4", prompt="", stream=True)
    assert caught.value.code == "model_not_found"


def test_other_paths_methods_and_large_bodies_are_refused_in_the_same_form(running):
    assert post(running.url, {}, path="/v1/chat/completions")[0] == 404
    assert post(running.url, {}, method="PUT")[0] == 405
    status, answer = post(running.url, {"prompt": "a" * MAX_BYTES})
    assert (status, answer["error"]["message"]) == (413, f"the body has more than {MAX_BYTES} bytes")


def test_a_page_of_another_site_cannot_have_texts_written(running):
    assert post(running.url, {}, kind="text/plain")[0] == 400  # what a browser would send without asking
    assert post(running.url, {}, method="OPTIONS")[0] == 405  # how it asks


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
BODIES = st.dictionaries(
    st.sampled_from([*CompletionRequest.model_fields, "echo", "suffix"]), JSON, max_size=4
)


@given(BODIES | JSON)
@settings(max_examples=40, deadline=None)
def test_no_body_whatever_makes_the_server_fail(running, body):
    body = {**body, "stream": False} if isinstance(body, dict) else body
    assert post(running.url, body)[0] in (200, 400, 404)


def test_32_clients_at_once_each_get_what_they_get_alone(running, engine):
    requests = [
        {
            "prompt": ["", "Once", "Once upon a time", "far"][n % 4],
            "max_tokens": 20 + n,
            "temperature": [0.0, 0.7, 1.0][n % 3],
            "seed": n,
        }
        for n in range(32)
    ]
    at_once = []

    async def text_of(client, request):
        parts = []
        async for chunk in await client.completions.create(model="slm", stream=True, **request):
            at_once.append(engine.n_texts)
            parts.append(chunk.choices[0].text)
        return "".join(parts)

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(text_of(client, request) for request in requests))

    texts = asyncio.run(all_of_them())
    for text, request in zip(texts, requests, strict=True):
        how = {key: request[key] for key in ("temperature", "seed")}
        assert [text] == alone(running.writer, request["prompt"], max_new_tokens=request["max_tokens"], **how)
    assert max(at_once) > 1


def test_the_benchmark_counts_the_tokens_of_all_its_clients_texts(running):
    url = urlsplit(running.url)
    found = asyncio.run(load(url.hostname, url.port, n_clients=3, n_requests=2, n_tokens=8))
    params = [sample_params(num_samples=1, max_new_tokens=8, seed=seed) for seed in range(6)]
    texts = [generate(running.writer.model, [[]], one, running.writer.end_of_text)[0][0] for one in params]
    assert found.n_tokens == sum(map(len, texts))
    assert len(found.waits) == 6
    assert 0 < min(found.waits) <= max(found.waits) < found.seconds


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_places(stream, running, engine):
    connection = HTTPConnection(urlsplit(running.url).netloc)
    body = json.dumps({**ENDLESS, "n": 3, "stream": stream})
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    if stream:
        assert connection.getresponse().readline().startswith(b"data: ")
    wait_for(lambda: engine.n_texts == 3)
    connection.close()
    connection.sock = None
    wait_for(lambda: engine.n_texts == 0)


def test_texts_that_find_no_place_wait_and_those_that_find_no_waiting_room_are_told(
    client, running, engine, monkeypatch
):
    monkeypatch.setattr(engines, "MAX_WRITTEN", 2)
    monkeypatch.setattr(engines, "MAX_WAITING", 1)
    with client.completions.create(**ENDLESS, n=2, stream=True) as first:
        next(iter(first))
        connection = HTTPConnection(urlsplit(running.url).netloc, timeout=60)
        body = json.dumps({"prompt": "Once", "max_tokens": 5, "seed": 1})
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        wait_for(lambda: engine.n_texts == 3)
        with pytest.raises(
            openai.InternalServerError, match="the server is busy with 3 texts; try again"
        ) as caught:
            client.completions.create(model="slm", prompt="")
        assert caught.value.status_code == 503
    answer = json.loads(connection.getresponse().read())  # the first has left
    connection.close()
    assert answer["choices"][0]["text"] == alone(running.writer, "Once", max_new_tokens=5)[0]


def test_a_model_that_fails_is_said_to_and_the_server_goes_on(client, running, engine, monkeypatch):
    step, is_broken = engines.Batch.step, True

    def fail_once_it_writes(batch):
        if is_broken and batch.texts and batch.texts[0].n_written == 3:
            raise RuntimeError("no memory")
        return step(batch)

    monkeypatch.setattr(engines.Batch, "step", fail_once_it_writes)
    with pytest.raises(openai.InternalServerError, match="the texts could not be written: no memory"):
        client.completions.create(**ENDLESS)
    with pytest.raises(openai.APIError, match="the texts could not be written: no memory"):
        list(client.completions.create(**ENDLESS, stream=True))
    is_broken = False
    assert client.completions.create(model="slm", prompt="", max_tokens=5).usage.completion_tokens == 5
