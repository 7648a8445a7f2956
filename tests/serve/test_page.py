"""The page, and writing with it in a real browser."""

import re
from html.parser import HTMLParser

import pytest

from slm.generate.batch import generate
from slm.serve.page import page_of
from slm.serve.params import CompletionRequest
from slm.tokenizer.tokenizer import encode
from tests.browser import needs_browser
from tests.clicking import seen_by
from tests.serving import tiny_writer
from tests.tiny import sample_params


class Inputs(HTMLParser):
    """The attributes of each input of the page, by its name."""

    def __init__(self, page):
        super().__init__()
        self.found = {}
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "input":
            self.found[dict(attrs)["name"]] = dict(attrs)


def test_the_page_asks_for_nothing_from_elsewhere():
    page = page_of(tiny_writer().model)
    assert "default-src 'none'; connect-src 'self'" in page
    assert not re.search(r"https?:|src=|@import|url\(", page)
    assert re.findall(r'href="([^"]*)"', page) == ["data:,"]


@pytest.mark.parametrize("end", ["min", "max", "value"])
def test_wherever_the_sliders_are_the_server_takes_the_request(end):
    sliders = {n: a for n, a in Inputs(page_of(tiny_writer().model)).found.items() if a["type"] == "range"}
    assert sliders.keys() == {"temperature", "top_p", "top_k", "min_p", "max_tokens", "n"}
    values = {n: float(a[end]) if "." in a["step"] else int(a[end]) for n, a in sliders.items()}
    assert CompletionRequest.model_validate({**values, "prompt": "", "logprobs": 6, "stream": True})


# Writes two stories, looks at a token with the keyboard, takes another one instead with the mouse, begins and
# stops long texts, and reads an error.
CLICKING = """
  const texts = () => all("article p").map((p) => p.textContent);
  const write = (values) => { set(values); one("form").requestSubmit(); };
  seen.labels = [...fields].filter((field) => field.name).map((field) => field.labels.length);
  write({ prompt: "Once", n: 2, max_tokens: 32, temperature: 1, seed: 5 });
  await says("Written with seed 5");
  seen.stories = texts();
  seen.heat = Number(one(".token").style.getPropertyValue("--p"));

  one("article p").focus();
  press("ArrowRight"); press("ArrowRight"); press("ArrowRight"); press("ArrowLeft");
  seen.here = all(".token").indexOf(one(".token.here"));
  press("Enter");
  seen.menu = all("#menu button").map((button) => [button.innerText.split("\\n"), button.disabled]);
  seen.focused = document.activeElement === one("#menu button:enabled");
  press("Escape");
  seen.hidden = one("#menu").hidden && document.activeElement === one("article p");

  one("#status").textContent = "";
  all(".token")[1].click();
  const other = all("#menu button:enabled").find((button) => !/[∎↵→]/.test(button.textContent));
  seen.other = other.firstChild.textContent;
  seen.before = "Once" + one(".token").textContent;
  other.click();
  await says("Written with seed 5");
  seen.after = texts();

  write({ prompt: "", n: 8, max_tokens: 1024 });
  const isUnderWay = () => texts().length === 8 && texts().every((text) => text.length > 3);
  await until(isUnderWay);
  write({});  // others in their place
  await until(isUnderWay);
  seen.writing = one("#status").textContent;
  one("#stop").click();
  await says("Stopped");
  seen.stopped = one("#stop").disabled;

  write({ prompt: "x ".repeat(4000) });
  await says("It did not work");
  seen.error = one("#status").textContent;
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What was seen in the browser, and the writer that wrote it."""
    writer = tiny_writer()
    return seen_by(CLICKING, writer, tmp_path_factory.mktemp("profile")), writer


def alone(writer, prompt, n):
    params = sample_params(num_samples=n, max_new_tokens=32, seed=5)
    texts = generate(writer.model, [encode(writer.tokenizer, prompt)], params, writer.end_of_text)[0]
    return [writer.tokenizer.decode(ids) + (" […]" if len(ids) == 32 else " ∎") for ids in texts]


@needs_browser
def test_stories_are_written_side_by_side_and_each_field_has_a_label(seen):
    seen, writer = seen
    assert seen["stories"] == [f"Once{text}" for text in alone(writer, "Once", 2)]
    assert 0 < seen["heat"] <= 1
    assert set(seen["labels"]) == {1}


@needs_browser
def test_arrow_keys_and_enter_lead_to_what_a_token_could_have_been(seen):
    seen, _ = seen
    assert seen["here"] == 1
    shares = [float(share.removesuffix("%")) for (_, share), _ in seen["menu"]]
    assert shares == sorted(shares, reverse=True)
    assert len(shares) in (6, 7)
    assert sum(is_disabled for _, is_disabled in seen["menu"]) >= 1, "the token itself"
    assert seen["focused"]
    assert seen["hidden"]


@needs_browser
def test_another_token_is_taken_and_its_story_goes_on_from_there(seen):
    seen, writer = seen
    first, second = seen["after"]
    beginning = seen["before"] + seen["other"]
    assert first == beginning + alone(writer, beginning, 1)[0]
    assert second == seen["stories"][1]


@needs_browser
def test_what_is_being_written_gives_way_or_is_stopped_and_an_error_is_shown(seen):
    seen, _ = seen
    assert seen["writing"] == "Writing, seed 5"
    assert seen["stopped"]
    assert re.match(r"It did not work: a prompt must have at most 2048 tokens, got \d+", seen["error"])
