"""Invalid requests are refused in OpenAI's format, and no request makes the server fail."""

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.serve.params import MAX_BODY_BYTES, MAX_PROMPT_TOKENS, CompletionRequest
from tests.server import post, serving, tiny_generator


@pytest.fixture(scope="module")
def running():
    with serving(tiny_generator()) as running:
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
    # An old name of a section of params.yaml.
    ({"quality": 1}, "quality", "quality: unknown key; must be one of model, n, "),
    ({"presence_penalty": 0.5}, "presence_penalty", "presence_penalty: unknown key"),
    ({"\ud800": 1}, None, "the body: must be a valid string"),
    ({"x": 1, "y": 2}, "x", "x: unknown key; must be one of model"),
    ({"n": 0, "top_p": 2}, "n", "equal to 1, got 0; top_p: must be less than or equal to 1, got 2"),
    ({"prompt": "a " * (MAX_PROMPT_TOKENS + 1)}, "prompt", f"at most {MAX_PROMPT_TOKENS} tokens"),
])  # fmt: skip
def test_invalid_request_is_refused_in_openai_format(body, param, message, running):
    status, answer = post(running.url, body)
    assert (status, answer.keys()) == (400, {"error"})
    error = answer["error"]
    assert message in error["message"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, None)


def test_openai_client_raises_its_exceptions(running):
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError, match=r"temperature: must be less than") as caught:
            client.completions.create(model="slm", prompt="", temperature=3.0)
        assert caught.value.param == "temperature"
        with pytest.raises(openai.NotFoundError, match="model: must be 'slm', got 'gpt-4'") as caught:
            client.completions.create(model="gpt-4", prompt="", stream=True)
        assert caught.value.code == "model_not_found"


def test_http_errors_have_openai_format(running):
    assert post(running.url, {}, path="/v1/embeddings")[0] == 404
    assert post(running.url, {}, method="PUT")[0] == 405
    status, answer = post(running.url, {"prompt": "a" * MAX_BODY_BYTES})
    assert (status, answer["error"]["message"]) == (413, f"the body must have at most {MAX_BODY_BYTES} bytes")


def test_cross_origin_requests_are_refused(running):
    # A browser sends text/plain without a preflight request.
    assert post(running.url, {}, content_type="text/plain")[0] == 400
    # The preflight request itself.
    assert post(running.url, {}, method="OPTIONS")[0] == 405


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
def test_any_body_is_answered_or_refused(running, body):
    body = {**body, "stream": False} if isinstance(body, dict) else body
    assert post(running.url, body)[0] in (200, 400, 404)
