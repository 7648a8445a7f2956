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

from benchmarks.serve import run_clients
from slm.generate.batch import generate
from slm.serve import engine as engines
from slm.tokenizer.tokenizer import encode
from tests.serving import (
    alone,
    ask_for_three_and_leave,
    client_of,
    idle,
    joined,
    post,
    serving,
    tiny_writer,
    wait_for,
)
from tests.tiny import sample_params

ENDLESS = {"model": "slm", "prompt": "", "temperature": 0, "max_tokens": 4096}  # some seconds' work


@pytest.fixture(scope="module")
def running():
    with serving(tiny_writer()) as running:
        yield running


@pytest.fixture
def client(running):
    with client_of(running) as client:
        yield client


@pytest.fixture
def engine(running):
    with idle(running) as engine:
        yield engine


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


def test_benchmark_counts_the_tokens_of_all_clients(running):
    url = urlsplit(running.url)
    result = asyncio.run(run_clients(url.hostname, url.port, n_clients=3, n_requests=2, n_tokens=8))
    params = [sample_params(num_samples=1, max_new_tokens=8, seed=seed) for seed in range(6)]
    texts = [generate(running.writer.model, [[]], one, running.writer.end_of_text)[0][0] for one in params]
    assert result.n_tokens == sum(map(len, texts))
    assert len(result.first_token_seconds) == 6
    assert 0 < min(result.first_token_seconds) <= max(result.first_token_seconds) < result.seconds


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_places(stream, running, engine):
    ask_for_three_and_leave(running, engine, "/v1/completions", {**ENDLESS, "stream": stream})


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
        if is_broken and batch.sequences and batch.sequences[0].n_generated == 3:
            raise RuntimeError("no memory")
        return step(batch)

    monkeypatch.setattr(engines.Batch, "step", fail_once_it_writes)
    with pytest.raises(openai.InternalServerError, match="the texts could not be written: no memory"):
        client.completions.create(**ENDLESS)
    with pytest.raises(openai.APIError, match="the texts could not be written: no memory"):
        list(client.completions.create(**ENDLESS, stream=True))
    is_broken = False
    assert client.completions.create(**{**ENDLESS, "max_tokens": 5}).usage.completion_tokens == 5
