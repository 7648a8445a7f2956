// ---- Used by both tabs: settings, requests to the server, the status line.

const SLIDERS = ["temperature", "top_p", "top_k", "min_p", "max_tokens"];

const element = (id) => document.getElementById(id);
const make = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);
const [form, stop, status] = ["form", "stop", "status"].map(element);
const fields = form.elements;
const tabs = [...document.querySelectorAll("[role=tab]")];

let abortController = new AbortController();
let nPending = 0;  // The number of requests in progress.

// ---- Tabs.

const isChat = () => document.body.className === "chat";

function selectTab(tab) {
  document.body.className = tab.value;
  for (const item of tabs) {
    item.ariaSelected = item === tab;
    item.tabIndex = item === tab ? 0 : -1;
  }
  for (const node of document.querySelectorAll("[data-tab]")) node.hidden = node.dataset.tab !== tab.value;
  // A reload returns to this tab.
  history.replaceState(null, "", `#${tab.value}`);
}

for (const tab of tabs) {
  const other = tabs[1 - tabs.indexOf(tab)];
  tab.onclick = () => selectTab(tab);
  tab.onkeydown = ({ key }) => {
    if (key !== "ArrowLeft" && key !== "ArrowRight") return;
    selectTab(other);
    other.focus();
  };
}
selectTab(location.hash === "#chat" ? tabs[1] : tabs[0]);

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
  if (isChat() && !fields.message.value.trim()) return fields.message.focus();
  abort();
  if (fields.random_seed.checked) fields.seed.value = crypto.getRandomValues(new Uint32Array(1))[0];
  isChat() ? sendMessage() : writeStories();
};
stop.onclick = abort;

function abort() {
  abortController.abort();
  abortController = new AbortController();
}

// Mark the end of a text: ended by the model, or cut off.
const endMark = (finish_reason) => make("span", { className: "quiet", textContent: finish_reason === "stop" ? " ∎" : " […]" });

// ---- The server.

// Send a request, call `onChunk` for each chunk, and update the status. Returns the error, or null.
async function request(path, body, onChunk) {
  nPending += 1;
  stop.disabled = false;
  setStatus(`Generating, seed ${body.seed}`);
  let message = `Done, seed ${body.seed}`, failure = null;
  try {
    for await (const chunk of stream(path, body)) onChunk(chunk);
  } catch (error) {
    const isAborted = error.name === "AbortError";
    message = isAborted ? `Stopped, seed ${body.seed}` : `Error: ${error.message}`;
    failure = isAborted ? null : error;
  }
  nPending -= 1;
  stop.disabled = nPending === 0;
  if (failure || nPending === 0) setStatus(message, failure !== null);
  return failure;
}

function setStatus(text, isError = false) {
  status.textContent = text;
  status.classList.toggle("error", isError);
}

// Yield the chunks of a stream of server-sent events.
async function* stream(path, body) {
  const headers = { "Content-Type": "application/json" };
  body = JSON.stringify({ ...body, stream: true });
  const response = await fetch(path, { method: "POST", headers, body, signal: abortController.signal });
  if (!response.ok) throw new Error((await response.json()).error.message);
  // The beginning of an event whose end has not arrived.
  let rest = "";
  for await (const part of readParts(response.body.pipeThrough(new TextDecoderStream()))) {
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
  throw new Error("connection to the server lost");
}

// Yield the parts of a stream, which not every browser can iterate over.
async function* readParts(stream) {
  const reader = stream.getReader();
  for (let read; !(read = await reader.read()).done; ) yield read.value;
}
