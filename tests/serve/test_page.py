"""The web page, and its tab Write in headless Chromium."""

import re
from html.parser import HTMLParser

import pytest

from slm.generate.batch import generate
from slm.serve.page import render_page
from slm.serve.params import CompletionRequest
from slm.tokenizer.tokenizer import encode
from tests.browser import needs_browser
from tests.page_script import run_script
from tests.server import tiny_generator
from tests.tiny import sample_params


class Inputs(HTMLParser):
    """Parser of a page: `attributes` of each input by its name."""

    def __init__(self, page):
        super().__init__()
        self.attributes = {}
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "input":
            self.attributes[dict(attrs)["name"]] = dict(attrs)


def test_page_loads_nothing_from_other_hosts():
    page = render_page(tiny_generator().model)
    assert "default-src 'none'; connect-src 'self'" in page
    assert not re.search(r"https?:|src=|@import|url\(", page)
    assert re.findall(r'href="([^"]*)"', page) == ["data:,"]


@pytest.mark.parametrize("end", ["min", "max", "value"])
def test_all_slider_values_are_accepted_by_the_server(end):
    sliders = {
        n: a
        for n, a in Inputs(render_page(tiny_generator().model)).attributes.items()
        if a["type"] == "range"
    }
    assert sliders.keys() == {"temperature", "top_p", "top_k", "min_p", "max_tokens", "n"}
    values = {n: float(a[end]) if "." in a["step"] else int(a[end]) for n, a in sliders.items()}
    assert CompletionRequest.model_validate({**values, "prompt": "", "logprobs": 6, "stream": True})


# Generates two stories, opens a token's menu with the keyboard, replaces a token with the mouse, starts and
# stops long stories, and provokes an error.
SCRIPT = """
  const texts = () => all("article p").map((p) => p.textContent);
  const write = (values) => { set(values); one("form").requestSubmit(); };
  seen.labels = [...fields].filter((field) => field.name).map((field) => field.labels.length);
  write({ prompt: "Once", n: 2, max_tokens: 32, temperature: 1, seed: 5 });
  await status("Done, seed 5");
  seen.stories = texts();
  seen.heat = Number(one(".token").style.getPropertyValue("--p"));

  one("article p").focus();
  press("ArrowRight"); press("ArrowRight"); press("ArrowRight"); press("ArrowLeft");
  seen.selected = all(".token").indexOf(one(".token.selected"));
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
  await status("Done, seed 5");
  seen.after = texts();

  write({ prompt: "", n: 8, max_tokens: 1024 });
  const isGenerating = () => texts().length === 8 && texts().every((text) => text.length > 3);
  await until(isGenerating);
  // Replace them before they are complete.
  write({});
  await until(isGenerating);
  seen.writing = one("#status").textContent;
  one("#stop").click();
  await status("Stopped");
  seen.stopped = one("#stop").disabled;

  write({ prompt: "x ".repeat(4000) });
  await status("Error");
  seen.error = one("#status").textContent;
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Return what the script has seen, and the generator of the server."""
    generator = tiny_generator()
    return run_script(SCRIPT, generator, tmp_path_factory.mktemp("profile")), generator


def expected_texts(generator, prompt, n):
    """Generate texts without a server, with the marks that the page adds at their ends."""
    params = sample_params(num_samples=n, max_new_tokens=32, seed=5)
    texts = generate(generator.model, [encode(generator.tokenizer, prompt)], params, generator.end_of_text)[0]
    return [generator.tokenizer.decode(ids) + (" […]" if len(ids) == 32 else " ∎") for ids in texts]


@needs_browser
def test_stories_equal_generate_and_fields_have_labels(seen):
    seen, generator = seen
    assert seen["stories"] == [f"Once{text}" for text in expected_texts(generator, "Once", 2)]
    assert 0 < seen["heat"] <= 1
    assert set(seen["labels"]) == {1}


@needs_browser
def test_keyboard_opens_the_top_alternatives(seen):
    seen, _ = seen
    assert seen["selected"] == 1
    percentages = [float(text.removesuffix("%")) for (_, text), _ in seen["menu"]]
    assert percentages == sorted(percentages, reverse=True)
    assert len(percentages) in (6, 7)
    assert sum(is_disabled for _, is_disabled in seen["menu"]) >= 1, "the token itself"
    assert seen["focused"]
    assert seen["hidden"]


@needs_browser
def test_chosen_alternative_continues_its_story(seen):
    seen, generator = seen
    first, second = seen["after"]
    beginning = seen["before"] + seen["other"]
    assert first == beginning + expected_texts(generator, beginning, 1)[0]
    assert second == seen["stories"][1]


@needs_browser
def test_stories_are_replaced_or_stopped_and_errors_shown(seen):
    seen, _ = seen
    assert seen["writing"] == "Generating, seed 5"
    assert seen["stopped"]
    assert re.match(r"Error: a prompt must have at most 2048 tokens, got \d+", seen["error"])
