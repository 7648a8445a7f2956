"""The tab Chat of the web page in headless Chromium."""

import re

import pytest

from slm.sft.conversations import render
from tests.browser import needs_browser
from tests.page_script import run_script
from tests.server import tiny_generator

# Selects the tab with the keyboard, sends two messages and an empty one, starts and stops a long answer,
# provokes an error, and starts a new conversation.
SCRIPT = """
  const turns = () => all("#turns article").map(({ children }) => [...children].map((p) => p.textContent));
  const send = async (message, outcome) => {
    one("#status").textContent = "";
    set({ message });
    press("Enter");
    await status(outcome);
  };

  one("#write-tab").focus();
  press("ArrowRight");
  seen.tabs = all("[role=tab]").map((tab) => [tab.ariaSelected, tab === document.activeElement]);
  seen.panels = all("[role=tabpanel]").map((panel) => [panel.id, panel.hidden]);
  seen.order = all("a, button, input, select, textarea, [tabindex]")
    .filter((node) => node.checkVisibility() && !node.disabled && node.tabIndex === 0)
    .map((node) => node.name || node.textContent);

  fields.message.focus();
  set({ temperature: 1, max_tokens: 16, seed: 5 });
  await send("Once", "Done, seed 5");
  seen.first = turns();
  await send(" upon a\\ntime ", "Done, seed 5");
  seen.second = turns();
  seen.focused = document.activeElement === fields.message && fields.message.value === "";
  seen.children = [...one("#turns").children].map((child) => [child.localName, child.className]);

  press("Enter");
  set({ message: "Once" });
  press("Enter", true);
  seen.unsent = turns().length;

  set({ temperature: 0, max_tokens: 1024 });
  press("Enter");
  await until(() => turns().length === 3 && turns()[2][1].length > 3);
  seen.busy = one("#turns").ariaBusy;
  one("#stop").click();
  await status("Stopped");
  seen.stopped = [turns()[2][1].slice(-4), one("#turns").ariaBusy, one("#stop").disabled];

  await send("x ".repeat(4000), "Error");
  const { textContent, className } = one("#status");
  seen.error = [textContent, className, turns().length, fields.message.value.length];

  one("#clear").click();
  seen.cleared = [turns(), document.activeElement === fields.message];
  set({ temperature: 1, max_tokens: 16 });
  await send("Once", "Done, seed 5");
  seen.again = turns();
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Return what the script has seen, and the generator of the server."""
    generator = tiny_generator()
    return run_script(SCRIPT, generator, tmp_path_factory.mktemp("profile")), generator


def expected_answer(generator, prompt):
    """Return the answer to a first message as the page shows it, cut off after 16 tokens."""
    text = generator.generate(render([], prompt), seed=5, temperature=1.0, max_new_tokens=16)
    return f"{text} […]"


@needs_browser
def test_keyboard_reaches_the_tab_and_all_fields(seen):
    seen, _ = seen
    assert seen["tabs"] == [["false", False], ["true", True]]
    assert seen["panels"] == [["write-panel", True], ["chat-panel", False]]
    sliders = ["temperature", "top_p", "top_k", "min_p", "max_tokens"]
    assert seen["order"] == ["Chat", "message", "Send", "New chat", *sliders, "seed", "random_seed"]


@needs_browser
def test_enter_sends_and_the_answer_equals_generate(seen):
    seen, generator = seen
    [[message, answer]] = seen["first"]
    assert (message, answer) == ("Once", expected_answer(generator, "Once"))
    assert seen["focused"]
    # Neither an empty message nor Shift+Enter is sent.
    assert seen["unsent"] == 2


@needs_browser
def test_line_marks_turns_outside_the_context(seen):
    seen, generator = seen
    assert seen["second"][0] == seen["first"][0]
    assert seen["second"][1] == ["upon a\ntime", expected_answer(generator, "upon a\ntime")]
    assert seen["children"] == [["article", "forgotten"], ["p", "quiet"], ["article", ""]]


@needs_browser
def test_stopped_answer_keeps_its_text(seen):
    seen, _ = seen
    assert seen["busy"] == "true"
    assert seen["stopped"] == [" […]", "false", True]


@needs_browser
def test_error_is_shown_and_the_message_restored(seen):
    seen, _ = seen
    line, class_name, n_turns, n_characters = seen["error"]
    assert re.match(r"Error: a prompt must have at most 2048 tokens, got \d+", line)
    assert (class_name, n_turns, n_characters) == ("error", 3, len("x " * 4000) - 1)


@needs_browser
def test_new_conversation_drops_all_turns(seen):
    seen, _ = seen
    assert seen["cleared"] == [[], True]
    assert seen["again"] == seen["first"]
