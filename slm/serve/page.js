// ---- What writing and asking share: tabs, settings, requests to the server, the line that tells how it goes.

const SLIDERS = ["temperature", "top_p", "top_k", "min_p", "max_tokens"];

const element = (id) => document.getElementById(id);
const make = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);
const [form, stop, status] = ["form", "stop", "status"].map(element);
const fields = form.elements;
const tabs = [...document.querySelectorAll("[role=tab]")];

let stopping = new AbortController();
let n_asked = 0;  // requests on their way

// ---- Tabs.

const isAsking = () => document.body.className === "ask";

function turnTo(tab) {
  document.body.className = tab.value;
  for (const one of tabs) {
    one.ariaSelected = one === tab;
    one.tabIndex = one === tab ? 0 : -1;
  }
  for (const one of document.querySelectorAll("[data-tab]")) one.hidden = one.dataset.tab !== tab.value;
  history.replaceState(null, "", `#${tab.value}`);  // where a reload comes back
}

for (const tab of tabs) {
  const other = tabs[1 - tabs.indexOf(tab)];
  tab.onclick = () => turnTo(tab);
  tab.onkeydown = ({ key }) => {
    if (key !== "ArrowLeft" && key !== "ArrowRight") return;
    turnTo(other);
    other.focus();
  };
}
turnTo(location.hash === "#ask" ? tabs[1] : tabs[0]);

// ---- Settings.

const settings = () => Object.fromEntries([...SLIDERS, "seed"].map((name) => [name, fields[name].valueAsNumber]));

form.oninput = () => {
  for (const name of [...SLIDERS, "n"]) {
    const value = fields[name].valueAsNumber;
    const isOff = (name === "top_k" || name === "min_p") ? value === 0 : name === "top_p" && value === 1;
    fields[name].parentElement.querySelector(".value").textContent = isOff ? "off" : value;
  }
};
form.oninput();

form.onsubmit = (event) => {
  event.preventDefault();
  if (isAsking() && !fields.request.value.trim()) return fields.request.focus();
  halt();
  if (fields.fresh.checked) fields.seed.value = crypto.getRandomValues(new Uint32Array(1))[0];
  isAsking() ? ask() : writeStories();
};
stop.onclick = halt;

function halt() {
  stopping.abort();
  stopping = new AbortController();
}

// How a text ended: by the model, or before its end.
const ending = (finish_reason) => make("span", { className: "quiet", textContent: finish_reason === "stop" ? " ∎" : " […]" });

// ---- The server.

// Send a request, hand on what comes, and tell how it goes. Gives what went wrong, or null.
async function request(path, body, take) {
  n_asked += 1;
  stop.disabled = false;
  tell(`Writing, seed ${body.seed}`);
  let outcome = `Written with seed ${body.seed}`, failure = null;
  try {
    for await (const chunk of stream(path, body)) take(chunk);
  } catch (error) {
    const isStopped = error.name === "AbortError";
    outcome = isStopped ? `Stopped, seed ${body.seed}` : `It did not work: ${error.message}`;
    failure = isStopped ? null : error;
  }
  n_asked -= 1;
  stop.disabled = n_asked === 0;
  if (failure || n_asked === 0) tell(outcome, failure !== null);
  return failure;
}

function tell(text, isWrong = false) {
  status.textContent = text;
  status.classList.toggle("wrong", isWrong);
}

// The chunks of a stream of server-sent events.
async function* stream(path, body) {
  const headers = { "Content-Type": "application/json" };
  body = JSON.stringify({ ...body, stream: true });
  const response = await fetch(path, { method: "POST", headers, body, signal: stopping.signal });
  if (!response.ok) throw new Error((await response.json()).error.message);
  let rest = "";
  for await (const part of parts(response.body.pipeThrough(new TextDecoderStream()))) {
    const events = (rest + part).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.slice("data: ".length);
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      yield chunk;
    }
  }
  throw new Error("the server has gone");
}

// Not every browser can iterate over a stream by itself.
async function* parts(stream) {
  const reader = stream.getReader();
  for (let read; !(read = await reader.read()).done; ) yield read.value;
}
