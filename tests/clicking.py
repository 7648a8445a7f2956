"""The server's page in a real browser, which a script clicks through."""

from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from slm.inference import Writer
from slm.serve.page import page_of
from tests.browser import opened
from tests.serving import serving, wait_for

# Appended to the page: does what a test says, and sends what was `seen` by it.
SCRIPT = """<script type="module">
  const one = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const until = async (what) => {
    for (const start = Date.now(); !what(); await new Promise((done) => setTimeout(done, 10)))
      if (Date.now() - start > 30_000) throw new Error(`waited in vain until ${what}`);
  };
  const says = (text) => until(() => one("#status").textContent.startsWith(text));
  const press = (key, shiftKey = false) => {
    const event = new KeyboardEvent("keydown", { key, shiftKey, bubbles: true, cancelable: true });
    document.activeElement.dispatchEvent(event);
  };
  const fields = one("form").elements, seen = {};
  const set = (values) => {
    for (const [name, value] of Object.entries(values)) fields[name].value = value;
  };

  try {
    fields.fresh.checked = false;
    CLICKING
  } catch (error) {
    seen.failed = String(error);
  }
  const headers = { "Content-Type": "application/json" };
  await fetch("seen", { method: "POST", headers, body: JSON.stringify(seen) });
</script>"""


def seen_by(clicking: str, writer: Writer, profile: Path) -> dict[str, Any]:
    """What a script saw on the page of a server; afterwards nothing is left to write."""
    found: list[dict[str, Any]] = []
    page = page_of(writer.model).replace("</body>", SCRIPT.replace("CLICKING", clicking) + "</body>")
    with serving(writer) as running:
        app, engine = running.server.config.app, running.server.engine

        @app.get("/clicking")
        async def click() -> HTMLResponse:
            return HTMLResponse(page)

        @app.post("/seen")
        async def take(request: Request) -> None:
            found.append(await request.json())

        with opened(f"{running.url}/clicking", profile):
            wait_for(lambda: bool(found), seconds=60)
            wait_for(lambda: engine.n_texts == 0)
    assert "failed" not in found[0], found[0]
    return found[0]
