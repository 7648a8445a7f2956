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
    (b'{"n": 1e999}', "n", "n: inf should be a valid integer"),
    (b"\xff", None, "There was an error parsing the body"),
    (b"[" * 100_000, None, "There was an error parsing the body"),
    (b"", None, "the body: Field required"),
    ([], None, "the body: [] should be a valid dictionary or object to extract fields from"),
    ({"prompt": 3}, "prompt", "prompt: 3 is not allowed; allowed: a string or a list of strings"),
    ({"prompt": [1, 2]}, "prompt", "prompt: [1, 2] is not allowed; allowed: a string or a list of strings"),
    ({"prompt": []}, None, "1 texts for each of 0 prompts; allowed: 1 to 64 in all"),
    ({"prompt": "\ud800"}, "prompt", "prompt: must be valid Unicode, got a lone surrogate"),
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
    ({"echo": True}, "echo", "echo is not supported; supported: model, n, "),
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


def test_refusals_are_the_exceptions_of_openais_client(running):
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError, match=r"temperature: 3\.0 should be less than") as caught:
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
