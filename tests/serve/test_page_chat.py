"""Asking the model on the page, in a real browser."""

import re

import pytest

from slm.sft import chat
from slm.sft.conversations import Turn
from tests.browser import needs_browser
from tests.clicking import seen_by
from tests.serving import tiny_writer

# Goes to the tab with the keyboard, asks twice, and nothing, begins and stops a long answer, reads an error,
# and starts over.
CLICKING = """
  const turns = () => all("#turns article").map(({ children }) => [...children].map((p) => p.textContent));
  const ask = async (request, outcome) => {
    one("#status").textContent = "";
    set({ request });
    press("Enter");
    await says(outcome);
  };

  one("#write-tab").focus();
  press("ArrowRight");
  seen.tabs = all("[role=tab]").map((tab) => [tab.ariaSelected, tab === document.activeElement]);
  seen.panels = all("[role=tabpanel]").map((panel) => [panel.id, panel.hidden]);
  seen.order = all("a, button, input, select, textarea, [tabindex]")
    .filter((one) => one.checkVisibility() && !one.disabled && one.tabIndex === 0)
    .map((one) => one.name || one.textContent);

  fields.request.focus();
  set({ temperature: 1, max_tokens: 16, seed: 5 });
  await ask("Once", "Written with seed 5");
  seen.first = turns();
  await ask(" upon a\\ntime ", "Written with seed 5");
  seen.second = turns();
  seen.focused = document.activeElement === fields.request && fields.request.value === "";
  seen.children = [...one("#turns").children].map((child) => [child.localName, child.className]);

  press("Enter");
  set({ request: "Once" });
  press("Enter", true);
  seen.unsent = turns().length;

  set({ temperature: 0, max_tokens: 1024 });
  press("Enter");
  await until(() => turns().length === 3 && turns()[2][1].length > 3);
  seen.busy = one("#turns").ariaBusy;
  one("#stop").click();
  await says("Stopped");
  seen.stopped = [turns()[2][1].slice(-4), one("#turns").ariaBusy, one("#stop").disabled];

  await ask("x ".repeat(4000), "It did not work");
  const { textContent, className } = one("#status");
  seen.error = [textContent, className, turns().length, fields.request.value.length];

  one("#restart").click();
  seen.restarted = [turns(), document.activeElement === fields.request];
  set({ temperature: 1, max_tokens: 16 });
  await ask("Once", "Written with seed 5");
  seen.anew = turns();
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What was seen in the browser, and the writer that answered."""
    writer = tiny_writer()
    return seen_by(CLICKING, writer, tmp_path_factory.mktemp("profile")), writer


def answered(writer, *said):
    """The answer to the last of what was said, as the page shows it, when it is cut after 16 tokens."""
    *said, request = said
    turns = [Turn(*turn) for turn in zip(said[::2], said[1::2], strict=True)]
    text = writer.generate(chat.render(turns, request), seed=5, temperature=1.0, max_new_tokens=16)
    return f"{text} […]"


@needs_browser
def test_the_keyboard_leads_to_the_tab_the_request_and_the_sliders(seen):
    seen, _ = seen
    assert seen["tabs"] == [["false", False], ["true", True]]
    assert seen["panels"] == [["write-panel", True], ["ask-panel", False]]
    sliders = ["temperature", "top_p", "top_k", "min_p", "max_tokens"]
    assert seen["order"] == ["Ask", "request", "Ask", "Start over", *sliders, "seed", "fresh"]


@needs_browser
def test_enter_sends_a_request_and_the_answer_is_the_terminals(seen):
    seen, writer = seen
    [[request, answer]] = seen["first"]
    assert (request, answer) == ("Once", answered(writer, "Once"))
    assert seen["focused"]
    assert seen["unsent"] == 2  # neither nothing nor a line break sends


@needs_browser
def test_a_conversation_goes_on_and_a_line_marks_what_the_model_no_longer_sees(seen):
    seen, writer = seen
    assert seen["second"][0] == seen["first"][0]
    assert seen["second"][1] == ["upon a\ntime", answered(writer, "upon a\ntime")]
    assert seen["children"] == [["article", "forgotten"], ["p", "quiet"], ["article", ""]]


@needs_browser
def test_an_answer_is_stopped_and_keeps_what_it_has(seen):
    seen, _ = seen
    assert seen["busy"] == "true"
    assert seen["stopped"] == [" […]", "false", True]


@needs_browser
def test_an_error_is_a_line_and_the_request_can_be_changed(seen):
    seen, _ = seen
    line, kind, n_turns, n_typed = seen["error"]
    assert re.match(r"It did not work: a prompt must have at most 2048 tokens, got \d+", line)
    assert (kind, n_turns, n_typed) == ("wrong", 3, len("x " * 4000) - 1)


@needs_browser
def test_starting_over_forgets_all_turns(seen):
    seen, _ = seen
    assert seen["restarted"] == [[], True]
    assert seen["anew"] == seen["first"]
