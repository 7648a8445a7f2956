// ---- The tab Write: stories side by side, with the top alternatives of each token.

const END = "<|endoftext|>";
const MAX_SURPRISAL = 3;  // In powers of ten: a probability of 0.1% has the strongest background.
const N_ALTERNATIVES = 6;

const menu = element("menu");

// ---- A story: the prompt, and a span for each generated token.

class Story {
  constructor(number, prompt) {
    this.prompt = prompt;
    this.version = 0;  // Counts how often the story was cut: older requests must not extend it.
    this.tokens = [];
    this.body = make("p", { className: "text heat", tabIndex: 0 });
    this.body.role = "group";
    this.body.ariaLabel = `Story ${number}`;
    this.body.setAttribute("aria-describedby", "hint");
    this.body.append(make("span", { className: "given", textContent: prompt }));
    this.body.story = this;
    const article = make("article");
    article.append(make("h2", { textContent: `Story ${number}` }), this.body);
    element("stories").append(article);
  }

  // Add a choice of a chunk. The text of a token reaches from its offset to that of the next token.
  add({ text, logprobs, finish_reason }) {
    const { tokens, token_logprobs, top_logprobs, text_offset } = logprobs;
    tokens.forEach((name, i) => {
      const [start, end] = [text_offset[i] - text_offset[0], (text_offset[i + 1] ?? Infinity) - text_offset[0]];
      this.push({ name, text: [...text].slice(start, end).join(""), logprob: token_logprobs[i], top: top_logprobs[i] });
    });
    // An incomplete character at the end of the text.
    if (text && !tokens.length) this.push({ ...this.incomplete, text });
    if (finish_reason) this.body.append(endMark(finish_reason));
  }

  push(token) {
    // A character of several tokens is shown with its last token.
    if (!token.text) return void (this.incomplete = token);
    token.span = make("span", { className: "token", textContent: token.text });
    token.span.classList.toggle("newline", token.text.includes("\n"));
    token.span.style.setProperty("--p", Math.min(-token.logprob / Math.LN10, MAX_SURPRISAL) / MAX_SURPRISAL);
    token.span.token = token;
    this.tokens.push(token);
    this.body.append(token.span);
  }

  // Remove a token and all after it.
  cut(token) {
    this.version += 1;
    this.tokens.length = this.tokens.indexOf(token);
    this.body.replaceChildren(this.body.firstChild, ...this.tokens.map(({ span }) => span));
  }

  get text() {
    return this.prompt + this.tokens.map((token) => token.text).join("");
  }
}

function writeStories() {
  hideMenu();
  element("stories").replaceChildren();
  continueStories(Array.from({ length: fields.n.valueAsNumber }, (_, i) => new Story(i + 1, fields.prompt.value)));
}

// Continue stories that all have the same text so far.
function continueStories(stories) {
  const versions = stories.map((story) => story.version);
  const body = { ...settings(), prompt: stories[0].text, n: stories.length, logprobs: N_ALTERNATIVES };
  request("v1/completions", body, ({ choices }) => {
    for (const choice of choices)
      if (stories[choice.index].version === versions[choice.index]) stories[choice.index].add(choice);
  });
}

fields.prompt.onkeydown = (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
};

// ---- The menu with the top alternatives of a token.

let selected = null;  // The token whose menu is open.
let isPinned = false; // Whether the menu stays open when the mouse leaves.

const percent = (logprob) => {
  const value = 100 * Math.exp(logprob);
  return `${value >= 9.95 ? value.toFixed(0) : value >= 0.995 ? value.toFixed(1) : Number(value.toPrecision(2))}%`;
};
const label = (name) => name === END ? "∎ (end of text)" : name.replaceAll("\n", "↵").replaceAll("\t", "→");
const storyOf = (token) => token.span.parentElement.story;

function showMenu(token) {
  if (selected === token) return;
  hideMenu();
  selected = token;
  token.span.classList.add("selected");
  menu.replaceChildren(make("p", { textContent: "Top alternatives" }));
  for (const [name, logprob] of Object.entries(token.top).sort((a, b) => b[1] - a[1])) {
    // A token that is not valid UTF-8 cannot be part of a prompt.
    const isSampled = name === token.name;
    const button = make("button", { type: "button", disabled: isSampled || name.startsWith("bytes:") });
    button.classList.toggle("sampled", isSampled);
    button.append(make("b", { textContent: label(name) }), make("span", { textContent: percent(logprob) }));
    button.onclick = () => replaceToken(token, name, logprob);
    menu.append(button);
  }
  menu.hidden = false;
  // Below the last line of the token, within the width of the page.
  const rectangle = [...token.span.getClientRects()].at(-1);
  menu.style.top = `${scrollY + rectangle.bottom}px`;
  menu.style.left = `${Math.max(8, Math.min(rectangle.left, document.documentElement.clientWidth - menu.offsetWidth - 8))}px`;
}

function hideMenu() {
  selected?.span.classList.remove("selected");
  selected = null;
  isPinned = false;
  menu.hidden = true;
}

// Replace a token by an alternative and continue the story from there.
function replaceToken(token, name, logprob) {
  const story = storyOf(token);
  hideMenu();
  story.cut(token);
  story.body.focus();
  if (name === END) return story.body.append(endMark("stop"));
  story.push({ name, text: name, logprob, top: token.top });
  continueStories([story]);
}

onpointerover = (event) => {
  if (isPinned || event.pointerType !== "mouse" || menu.contains(event.target)) return;
  event.target.token ? showMenu(event.target.token) : hideMenu();
};
onclick = (event) => {
  if (menu.contains(event.target)) return;
  if (!event.target.token) return hideMenu();
  showMenu(event.target.token);
  isPinned = true;
};
addEventListener("focusin", (event) => {
  if (selected && !menu.contains(event.target) && event.target !== storyOf(selected).body) hideMenu();
});
onkeydown = (event) => {
  if (event.key === "Escape" && selected) {
    storyOf(selected).body.focus();
    return hideMenu();
  }
  const story = event.target.story;
  if (!story?.tokens.length) return;
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) {
    const index = story.tokens.indexOf(selected);
    const next = story.tokens[index < 0 ? 0 : Math.max(0, Math.min(index + step, story.tokens.length - 1))];
    next.span.scrollIntoView({ block: "nearest" });
    showMenu(next);
    isPinned = true;
    event.preventDefault();
  } else if (event.key === "Enter" && selected) {
    menu.querySelector("button:enabled")?.focus();
    event.preventDefault();
  }
};
