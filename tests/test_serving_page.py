"""The page to write with, in a real browser."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from fastapi import Request
from fastapi.responses import HTMLResponse

from slm.serving.api import page_to_write_with
from slm.serving.params import CompletionRequest
from slm.text.generate import generate
from slm.tokens.tokenizer import encode
from tests.serving import serving, tiny_writer, wait_for
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
    page = page_to_write_with()
    assert "default-src 'none'; connect-src 'self'" in page
    assert not re.search(r"https?:|src=|@import|url\(", page)
    assert re.findall(r'href="([^"]*)"', page) == ["data:,"]


@pytest.mark.parametrize("end", ["min", "max", "value"])
def test_wherever_the_sliders_are_the_server_takes_the_request(end):
    sliders = {n: a for n, a in Inputs(page_to_write_with()).found.items() if a["type"] == "range"}
    assert sliders.keys() == {"temperature", "top_p", "top_k", "min_p", "max_tokens", "n"}
    values = {n: float(a[end]) if "." in a["step"] else int(a[end]) for n, a in sliders.items()}
    assert CompletionRequest.model_validate({**values, "prompt": "", "logprobs": 6, "stream": True})


# Appended to the page: writes two stories, looks at a token with the keyboard, takes another one instead with
# the mouse, begins and stops long texts, reads an error, and sends what it saw.
CLICKING = """<script type="module">
  const one = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const texts = () => all("article p").map((p) => p.textContent);
  const until = async (what) => { while (!what()) await new Promise((done) => setTimeout(done, 10)); };
  const says = (text) => until(() => one("#status").textContent.startsWith(text));
  const press = (key) =>
    document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const headers = { "Content-Type": "application/json" };
  const post = (body) => fetch("seen", { method: "POST", headers, body: JSON.stringify(body) });
  const fields = one("form").elements, seen = {};
  const write = (values) => {
    for (const [name, value] of Object.entries(values)) fields[name].value = value;
    one("form").requestSubmit();
  };

  try {
    seen.labels = [...fields].filter((field) => field.name).map((field) => field.labels.length);
    fields.fresh.checked = false;
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
  } catch (error) {
    seen.failed = String(error);
  }
  await post(seen);
</script>"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What a browser saw, and the writer that wrote it."""
    found, writer = [], tiny_writer()
    page = page_to_write_with().replace("</body>", CLICKING + "</body>")
    with serving(writer) as running:
        app, engine = running.server.config.app, running.server.engine

        @app.get("/clicking")
        async def clicking() -> HTMLResponse:
            return HTMLResponse(page)

        @app.post("/seen")
        async def take(request: Request) -> None:
            found.append(await request.json())

        profile = f"--user-data-dir={tmp_path_factory.mktemp('profile')}"
        command = [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            profile,
            f"{running.url}/clicking",
        ]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as browser:
            try:
                wait_for(lambda: bool(found), seconds=60)
                wait_for(lambda: engine.n_texts == 0)
            finally:
                browser.terminate()
    assert "failed" not in found[0], found[0]
    return found[0], writer


def alone(writer, prompt, n):
    params = sample_params(num_samples=n, max_new_tokens=32, seed=5)
    texts = generate(writer.model, [encode(writer.tokenizer, prompt)], params, writer.end_of_text)[0]
    return [writer.tokenizer.decode(ids) + (" […]" if len(ids) == 32 else " ∎") for ids in texts]


needs_chromium = pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium here")


@needs_chromium
def test_stories_are_written_side_by_side_and_each_field_has_a_label(seen):
    seen, writer = seen
    assert seen["stories"] == [f"Once{text}" for text in alone(writer, "Once", 2)]
    assert 0 < seen["heat"] <= 1
    assert set(seen["labels"]) == {1}


@needs_chromium
def test_arrow_keys_and_enter_lead_to_what_a_token_could_have_been(seen):
    seen, _ = seen
    assert seen["here"] == 1
    shares = [float(share.removesuffix("%")) for (_, share), _ in seen["menu"]]
    assert shares == sorted(shares, reverse=True)
    assert len(shares) in (6, 7)
    assert sum(is_disabled for _, is_disabled in seen["menu"]) >= 1, "the token itself"
    assert seen["focused"]
    assert seen["hidden"]


@needs_chromium
def test_another_token_is_taken_and_its_story_goes_on_from_there(seen):
    seen, writer = seen
    first, second = seen["after"]
    beginning = seen["before"] + seen["other"]
    assert first == beginning + alone(writer, beginning, 1)[0]
    assert second == seen["stories"][1]


@needs_chromium
def test_what_is_being_written_gives_way_or_is_stopped_and_an_error_is_shown(seen):
    seen, _ = seen
    assert seen["writing"] == "Writing, seed 5"
    assert seen["stopped"]
    assert re.match(r"It did not work: a prompt has \d+ tokens; allowed: 2048", seen["error"])
