"""What the server refuses is said in OpenAI's form, and no request makes it fail."""

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.serve.params import MAX_BYTES, MAX_PROMPT, CompletionRequest
from tests.serving import post, serving, tiny_writer


@pytest.fixture(scope="module")
def running():
    with serving(tiny_writer()) as running:
        yield running


@pytest.mark.parametrize("body, param, message", [
    (b"{", None, "the body is not valid JSON: Expecting property name enclosed in double quotes"),
    (b'{"n": 1e999}', "n", "n: must be a valid integer, got inf"),
    (b"\xff", None, "There was an error parsing the body"),
    (b"[" * 100_000, None, "There was an error parsing the body"),
    (b"", None, "the body: missing"),
    ([], None, "the body: must be a mapping, got []"),
    ({"prompt": 3}, "prompt", "prompt: must be a string or a list of strings, got 3"),
    ({"prompt": [1, 2]}, "prompt", "prompt: must be a string or a list of strings, got [1, 2]"),
    ({"prompt": []}, None, "n × prompts must be 1 to 64, got n = 1 for 0 prompts"),
    ({"prompt": "\ud800"}, "prompt", "prompt: must be valid Unicode, got a lone surrogate"),
    ({"prompt": ["a"] * 9, "n": 8}, None, "n × prompts must be 1 to 64, got n = 8 for 9 prompts"),
    ({"n": 65}, "n", "n: must be less than or equal to 64, got 65"),
    ({"max_tokens": 0}, "max_tokens", "max_tokens: must be greater than or equal to 1, got 0"),
    ({"max_tokens": "many"}, "max_tokens", "max_tokens: must be a valid integer, got 'many'"),
    ({"max_tokens": 5000}, "max_tokens", "max_tokens: must be less than or equal to 4096, got 5000"),
    ({"temperature": -1}, "temperature", "temperature: must be greater than or equal to 0, got -1"),
    (b'{"temperature": NaN}', "temperature", "temperature: must be a finite number, got nan"),
    ({"seed": -1}, "seed", "seed: must be greater than or equal to 0, got -1"),
    ({"logprobs": 11}, "logprobs", "logprobs: must be less than or equal to 10, got 11"),
    ({"stop": ["a"] * 5}, "stop", "must have at most 4 items, got ["),
    ({"stop": ""}, "stop.0", "stop.0: must have at least 1 character, got ''"),
    ({"echo": True}, "echo", "echo: unknown key; must be one of model, n, "),
    ({"presence_penalty": 0.5}, "presence_penalty", "presence_penalty: unknown key"),
    ({"\ud800": 1}, None, "the body: must be a valid string"),
    ({"x": 1, "y": 2}, "x", "x: unknown key; must be one of model"),
    ({"n": 0, "top_p": 2}, "n", "equal to 1, got 0; top_p: must be less than or equal to 1, got 2"),
    ({"prompt": "a " * (MAX_PROMPT + 1)}, "prompt", f"at most {MAX_PROMPT} tokens"),
])  # fmt: skip
def test_a_bad_request_is_refused_with_the_reason_in_openais_form(body, param, message, running):
    status, answer = post(running.url, body)
    assert (status, answer.keys()) == (400, {"error"})
    error = answer["error"]
    assert message in error["message"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, None)


def test_refusals_are_the_exceptions_of_openais_client(running):
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError, match=r"temperature: must be less than") as caught:
            client.completions.create(model="slm", prompt="", temperature=3.0)
        assert caught.value.param == "temperature"
        with pytest.raises(openai.NotFoundError, match="'gpt-4' is not served; served: slm") as caught:
            client.completions.create(model="gpt-4", prompt="", stream=True)
        assert caught.value.code == "model_not_found"


def test_other_paths_methods_and_large_bodies_are_refused_in_the_same_form(running):
    assert post(running.url, {}, path="/v1/embeddings")[0] == 404
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
