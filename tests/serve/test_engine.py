"""Completions and the engine, over HTTP on loopback, mostly with OpenAI's client."""

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
from tests.server import (
    check_disconnect_aborts,
    generate_texts,
    idle_engine,
    join_chunks,
    openai_client,
    post,
    serving,
    tiny_generator,
    wait_for,
)
from tests.tiny import sample_params

# A request that takes some seconds.
LONG = {"model": "slm", "prompt": "", "temperature": 0, "max_tokens": 4096}


@pytest.fixture(scope="module")
def running():
    with serving(tiny_generator()) as running:
        yield running


@pytest.fixture
def client(running):
    with openai_client(running) as client:
        yield client


@pytest.fixture
def engine(running):
    with idle_engine(running) as engine:
        yield engine


def test_choices_equal_the_samples_of_generate(client, running):
    prompts = ["Once upon", ""]
    response = client.completions.create(
        model="slm", prompt=prompts, n=3, max_tokens=40, temperature=0.8, seed=5
    )
    expected = [
        text
        for prompt in prompts
        for text in generate_texts(
            running.generator, prompt, num_samples=3, max_new_tokens=40, temperature=0.8, seed=5
        )
    ]
    assert [choice.index for choice in response.choices] == list(range(6))
    assert [choice.text for choice in response.choices] == expected
    assert response.object == "text_completion"
    assert response.usage.prompt_tokens == len(encode(running.generator.tokenizer, "Once upon"))
    assert response.usage.total_tokens == response.usage.prompt_tokens + response.usage.completion_tokens


def test_stream_equals_the_complete_response(client):
    request = {"model": "slm", "prompt": ["Once", "far"], "n": 2, "max_tokens": 100, "seed": 3}
    complete = client.completions.create(**request)
    texts, reasons, usage = join_chunks(
        client.completions.create(**request, stream=True, stream_options={"include_usage": True})
    )
    assert texts == {choice.index: choice.text for choice in complete.choices}
    assert reasons == {choice.index: choice.finish_reason for choice in complete.choices}
    assert usage == complete.usage


def test_finish_reason_is_stop_or_length(client, running):
    response = client.completions.create(model="slm", prompt="", n=30, max_tokens=150, seed=1)
    assert {choice.finish_reason for choice in response.choices} == {"stop", "length"}
    params = sample_params(num_samples=30, max_new_tokens=150)
    lengths = [
        len(ids) for ids in generate(running.generator.model, [[]], params, running.generator.end_of_text)[0]
    ]
    assert [c.finish_reason == "length" for c in response.choices] == [length == 150 for length in lengths]
    assert response.usage.completion_tokens == sum(lengths)


@pytest.mark.parametrize("stream", [False, True])
@torch.no_grad()
def test_logprobs_are_those_of_the_model(stream, client, running):
    generator = running.generator
    request = {"model": "slm", "prompt": "Once", "max_tokens": 12, "temperature": 2, "top_k": 5, "seed": 1}
    top_k = {"extra_body": {"top_k": request.pop("top_k")}}
    response = client.completions.create(**request, **top_k, logprobs=3, stream=stream)
    choices = [chunk.choices[0] for chunk in response] if stream else response.choices
    text = "".join(choice.text for choice in choices)
    logprobs = {
        key: [value for choice in choices for value in getattr(choice.logprobs, key)]
        for key in ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    }
    ids = [generator.end_of_text, *encode(generator.tokenizer, "Once")]
    for name, logprob, top, _ in zip(*logprobs.values(), strict=True):
        expected = generator.model(torch.tensor([ids]))[0, -1].log_softmax(-1)
        assert sorted(top.values())[-3:] == pytest.approx(sorted(expected.topk(3).values.tolist()), abs=1e-3)
        assert top[name] == logprob
        assert len(top) in (3, 4)
        token = next(
            i for i in expected.topk(6).indices.tolist() if expected[i] == pytest.approx(logprob, abs=1e-3)
        )
        ids.append(token)
    assert len(logprobs["tokens"]) == 12
    spans = [text[start:stop] for start, stop in pairwise([*logprobs["text_offset"], len(text)])]
    for name, span in zip(logprobs["tokens"], spans, strict=True):
        assert span.endswith(name) or name.startswith("bytes:")


def test_stop_string_ends_the_text_and_the_sequence(client, engine):
    text = client.completions.create(**{**LONG, "max_tokens": 400}).choices[0].text
    stop = re.search("[a-z]{3}", text[20:])[0]
    for stream in (False, True):
        response = client.completions.create(**LONG, stop=[stop, "does not occur"], stream=stream)
        texts, reasons, _ = join_chunks(response if stream else [response])
        assert texts[0] == text[: text.index(stop)]
        assert reasons[0] == "stop"


def test_seed_repeats_a_text(client):
    def texts(**seed):
        return {
            client.completions.create(model="slm", prompt="", max_tokens=30, **seed).choices[0].text
            for _ in range(3)
        }

    assert len(texts(seed=7)) == 1
    assert len(texts()) == 3


def test_sampling_parameters_take_effect(client, running):
    def text(temperature=1.0, **extra):
        options = {"max_tokens": 30, "temperature": temperature, "seed": 4, "extra_body": extra}
        return client.completions.create(model="slm", prompt="Once", **options).choices[0].text

    greedy = generate_texts(running.generator, "Once", max_new_tokens=30, temperature=0.0)[0]
    assert text(temperature=0) == text(top_k=1) == text(min_p=1.0) == text(top_p=1e-6) == greedy
    free = generate_texts(running.generator, "Once", max_new_tokens=30, seed=4)[0]
    assert text() == text(top_k=0) == text(top_k=-1) == free
    penalized = generate_texts(running.generator, "Once", max_new_tokens=30, seed=4, repetition_penalty=1.5)[
        0
    ]
    assert text(repetition_penalty=1.5) == penalized != free


def test_models_lists_the_model(client):
    assert [model.id for model in client.models.list()] == ["slm"]


def test_ignored_fields_are_accepted_with_their_defaults(running):
    ignored = {"best_of": 1, "echo": False, "presence_penalty": 0, "frequency_penalty": 0.0, "suffix": None}
    body = {"prompt": None, "logit_bias": {}, "stop": None, "logprobs": None, "seed": 1, **ignored}
    status, answer = post(running.url, body)
    assert (status, answer["choices"][0]["text"]) == (200, generate_texts(running.generator)[0])


def test_concurrent_clients_get_the_same_texts_as_alone(running, engine):
    requests = [
        {
            "prompt": ["", "Once", "Once upon a time", "far"][n % 4],
            "max_tokens": 20 + n,
            "temperature": [0.0, 0.7, 1.0][n % 3],
            "seed": n,
        }
        for n in range(32)
    ]
    n_concurrent = []

    async def text_of(client, request):
        parts = []
        async for chunk in await client.completions.create(model="slm", stream=True, **request):
            n_concurrent.append(engine.n_sequences)
            parts.append(chunk.choices[0].text)
        return "".join(parts)

    async def run_requests():
        async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(text_of(client, request) for request in requests))

    texts = asyncio.run(run_requests())
    for text, request in zip(texts, requests, strict=True):
        options = {key: request[key] for key in ("temperature", "seed")}
        assert [text] == generate_texts(
            running.generator, request["prompt"], max_new_tokens=request["max_tokens"], **options
        )
    assert max(n_concurrent) > 1


def test_benchmark_counts_the_tokens_of_all_clients(running):
    url = urlsplit(running.url)
    result = asyncio.run(run_clients(url.hostname, url.port, n_clients=3, n_requests=2, n_tokens=8))
    params = [sample_params(num_samples=1, max_new_tokens=8, seed=seed) for seed in range(6)]
    texts = [
        generate(running.generator.model, [[]], one, running.generator.end_of_text)[0][0] for one in params
    ]
    assert result.n_tokens == sum(map(len, texts))
    assert len(result.first_token_seconds) == 6
    assert 0 < min(result.first_token_seconds) <= max(result.first_token_seconds) < result.seconds


@pytest.mark.parametrize("stream", [False, True])
def test_disconnect_aborts_the_sequences(stream, running, engine):
    check_disconnect_aborts(running, engine, "/v1/completions", {**LONG, "stream": stream})


def test_sequences_wait_and_a_full_queue_is_refused(client, running, engine, monkeypatch):
    monkeypatch.setattr(engines, "MAX_RUNNING", 2)
    monkeypatch.setattr(engines, "MAX_WAITING", 1)
    with client.completions.create(**LONG, n=2, stream=True) as first:
        next(iter(first))
        connection = HTTPConnection(urlsplit(running.url).netloc, timeout=60)
        body = json.dumps({"prompt": "Once", "max_tokens": 5, "seed": 1})
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        wait_for(lambda: engine.n_sequences == 3)
        with pytest.raises(
            openai.InternalServerError, match="the server is busy with 3 sequences; try again"
        ) as caught:
            client.completions.create(model="slm", prompt="")
        assert caught.value.status_code == 503
    # The first client has disconnected, so there is a free place.
    answer = json.loads(connection.getresponse().read())
    connection.close()
    assert answer["choices"][0]["text"] == generate_texts(running.generator, "Once", max_new_tokens=5)[0]


def test_server_continues_after_generation_fails(client, running, engine, monkeypatch):
    step, is_broken = engines.Batch.step, True

    def fail_at_token_3(batch):
        if is_broken and batch.sequences and batch.sequences[0].n_generated == 3:
            raise RuntimeError("no memory")
        return step(batch)

    monkeypatch.setattr(engines.Batch, "step", fail_at_token_3)
    with pytest.raises(openai.InternalServerError, match="generation failed: no memory"):
        client.completions.create(**LONG)
    with pytest.raises(openai.APIError, match="generation failed: no memory"):
        list(client.completions.create(**LONG, stream=True))
    is_broken = False
    assert client.completions.create(**{**LONG, "max_tokens": 5}).usage.completion_tokens == 5
