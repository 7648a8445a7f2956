"""Run a script on the server's page in headless Chromium."""

from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from slm.inference import TextGenerator
from slm.serve.page import render_page
from tests.browser import open_page
from tests.server import serving, wait_for

# Appended to the page: runs a test's script and sends the object `seen` that it fills.
SCRIPT = """<script type="module">
  const one = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const until = async (condition) => {
    for (const start = Date.now(); !condition(); await new Promise((done) => setTimeout(done, 10)))
      if (Date.now() - start > 30_000) throw new Error(`timeout: ${condition}`);
  };
  const status = (text) => until(() => one("#status").textContent.startsWith(text));
  const press = (key, shiftKey = false) => {
    const event = new KeyboardEvent("keydown", { key, shiftKey, bubbles: true, cancelable: true });
    document.activeElement.dispatchEvent(event);
  };
  const fields = one("form").elements, seen = {};
  const set = (values) => {
    for (const [name, value] of Object.entries(values)) fields[name].value = value;
  };

  try {
    fields.random_seed.checked = false;
    TEST_SCRIPT
  } catch (error) {
    seen.failed = String(error);
  }
  const headers = { "Content-Type": "application/json" };
  await fetch("seen", { method: "POST", headers, body: JSON.stringify(seen) });
</script>"""


def run_script(script: str, generator: TextGenerator, profile: Path) -> dict[str, Any]:
    """Run a script on the page and return what it has `seen`. Fails unless the engine is idle afterwards."""
    results: list[dict[str, Any]] = []
    page = render_page(generator.model).replace("</body>", SCRIPT.replace("TEST_SCRIPT", script) + "</body>")
    with serving(generator) as running:
        app, engine = running.server.config.app, running.server.engine

        @app.get("/test")
        async def get_test_page() -> HTMLResponse:
            return HTMLResponse(page)

        @app.post("/seen")
        async def receive(request: Request) -> None:
            results.append(await request.json())

        with open_page(f"{running.url}/test", profile):
            wait_for(lambda: bool(results), seconds=60)
            wait_for(lambda: engine.n_sequences == 0)
    assert "failed" not in results[0], results[0]
    return results[0]
