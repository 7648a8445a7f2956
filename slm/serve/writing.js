// ---- Writing: stories side by side, and what else each token could have been.

const END = "<|endoftext|>";  // the token that ends a text
const MOST_SURPRISE = 3;      // powers of ten: a token of one in a thousand has the warmest ground
const N_ALTERNATIVES = 6;

const menu = element("menu");

// ---- A story: the prompt and what was written after it, a span for each token.

class Story {
  constructor(number, prompt) {
    this.prompt = prompt;
    this.turn = 0;  // counts how often another token was chosen
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

  // A choice of a chunk: each token has the text from its offset to the next one's.
  add({ text, logprobs, finish_reason }) {
    const { tokens, token_logprobs, top_logprobs, text_offset } = logprobs;
    tokens.forEach((name, i) => {
      const [from, to] = [text_offset[i] - text_offset[0], (text_offset[i + 1] ?? Infinity) - text_offset[0]];
      this.push({ name, text: [...text].slice(from, to).join(""), logprob: token_logprobs[i], top: top_logprobs[i] });
    });
    if (text && !tokens.length) this.push({ ...this.part, text });  // what never became a character
    if (finish_reason) this.body.append(ending(finish_reason));
  }

  push(token) {
    if (!token.text) return void (this.part = token);  // of a character
    token.span = make("span", { className: "token", textContent: token.text });
    token.span.classList.toggle("newline", token.text.includes("\n"));
    token.span.style.setProperty("--p", Math.min(-token.logprob / Math.LN10, MOST_SURPRISE) / MOST_SURPRISE);
    token.span.token = token;
    this.tokens.push(token);
    this.body.append(token.span);
  }

  // Drop a token and all after it.
  cut(token) {
    this.turn += 1;
    this.tokens.length = this.tokens.indexOf(token);
    this.body.replaceChildren(this.body.firstChild, ...this.tokens.map((kept) => kept.span));
  }

  get text() {
    return this.prompt + this.tokens.map((token) => token.text).join("");
  }
}

function writeStories() {
  hide();
  element("stories").replaceChildren();
  write(Array.from({ length: fields.n.valueAsNumber }, (_, i) => new Story(i + 1, fields.prompt.value)));
}

// Have stories continued that all have the same text so far.
function write(stories) {
  const turns = stories.map((story) => story.turn);
  const body = { ...settings(), prompt: stories[0].text, n: stories.length, logprobs: N_ALTERNATIVES };
  request("v1/completions", body, ({ choices }) => {
    for (const choice of choices)
      if (stories[choice.index].turn === turns[choice.index]) stories[choice.index].add(choice);
  });
}

fields.prompt.onkeydown = (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
};

// ---- The menu of what else a token could have been.

let here = null;  // the token whose menu is shown
let isPinned = false;

const percent = (logprob) => {
  const share = 100 * Math.exp(logprob);
  return `${share >= 9.95 ? share.toFixed(0) : share >= 0.995 ? share.toFixed(1) : Number(share.toPrecision(2))}%`;
};
const shown = (name) => name === END ? "∎ (the end)" : name.replaceAll("\n", "↵").replaceAll("\t", "→");
const storyOf = (token) => token.span.parentElement.story;

function show(token) {
  if (here === token) return;
  hide();
  here = token;
  token.span.classList.add("here");
  menu.replaceChildren(make("p", { textContent: "Go on with" }));
  for (const [name, logprob] of Object.entries(token.top).sort((a, b) => b[1] - a[1])) {
    const button = make("button", { type: "button", disabled: name === token.name || name.startsWith("bytes:") });
    button.append(make("b", { textContent: shown(name) }), make("span", { textContent: percent(logprob) }));
    button.onclick = () => choose(token, name, logprob);
    menu.append(button);
  }
  menu.hidden = false;
  const place = [...token.span.getClientRects()].at(-1);
  menu.style.top = `${scrollY + place.bottom}px`;
  menu.style.left = `${Math.max(8, Math.min(place.left, document.documentElement.clientWidth - menu.offsetWidth - 8))}px`;
}

function hide() {
  here?.span.classList.remove("here");
  here = null;
  isPinned = false;
  menu.hidden = true;
}

function choose(token, name, logprob) {
  const story = storyOf(token);
  hide();
  story.cut(token);
  story.body.focus();
  if (name === END) return story.body.append(ending("stop"));
  story.push({ name, text: name, logprob, top: token.top });
  write([story]);
}

onpointerover = (event) => {
  if (isPinned || event.pointerType !== "mouse" || menu.contains(event.target)) return;
  event.target.token ? show(event.target.token) : hide();
};
onclick = (event) => {
  if (menu.contains(event.target)) return;
  if (!event.target.token) return hide();
  show(event.target.token);
  isPinned = true;
};
addEventListener("focusin", (event) => {
  if (here && !menu.contains(event.target) && event.target !== storyOf(here).body) hide();
});
onkeydown = (event) => {
  if (event.key === "Escape" && here) {
    storyOf(here).body.focus();
    return hide();
  }
  const story = event.target.story;
  if (!story?.tokens.length) return;
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) {
    const at = story.tokens.indexOf(here);
    const next = story.tokens[at < 0 ? 0 : Math.max(0, Math.min(at + step, story.tokens.length - 1))];
    next.span.scrollIntoView({ block: "nearest" });
    show(next);
    isPinned = true;
    event.preventDefault();
  } else if (event.key === "Enter" && here) {
    menu.querySelector("button:enabled")?.focus();
    event.preventDefault();
  }
};
