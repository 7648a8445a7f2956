// ---- Asking: a conversation, which each request sends as a whole.

const turns = [];
const outOfSight = make("p", { className: "quiet", textContent: "The model no longer sees what is above." });

class Turn {
  constructor(request) {
    this.request = request;
    this.answer = "";
    this.body = make("article");
    this.shown = make("p", { className: "text" });
    this.body.append(make("p", { className: "request", textContent: request }), this.shown);
    element("turns").append(this.body);
  }

  // A choice of a chunk.
  add({ delta, finish_reason }) {
    this.answer += delta.content;
    this.shown.append(delta.content);
    this.finish_reason = finish_reason;
  }

  get messages() {
    return [{ role: "user", content: this.request }, { role: "assistant", content: this.answer }];
  }
}

async function ask() {
  const turn = new Turn(fields.request.value.trim());
  turns.push(turn);
  fields.request.value = "";
  turn.body.scrollIntoView({ block: "nearest" });
  element("turns").ariaBusy = true;  // a screen reader waits for the whole answer
  const messages = turns.flatMap((one) => one.messages).slice(0, -1);
  const failure = await request("v1/chat/completions", { ...settings(), messages }, (chunk) => {
    const follows = turn.body.getBoundingClientRect().bottom < innerHeight;
    forget(chunk.forgotten_turns);
    turn.add(chunk.choices[0]);
    if (follows) turn.body.scrollIntoView({ block: "nearest" });
  });
  element("turns").ariaBusy = n_asked > 0;
  turn.shown.append(ending(turn.finish_reason));
  if (failure && !turn.answer) takeBack(turn);
}

// Show which of the first turns the model has not been given.
function forget(n) {
  turns.forEach((turn, i) => turn.body.classList.toggle("forgotten", i < n));
  n ? turns[n - 1].body.after(outOfSight) : outOfSight.remove();
}

// A request that was not answered can be changed and sent again.
function takeBack(turn) {
  turns.splice(turns.indexOf(turn), 1);
  turn.body.remove();
  fields.request.value ||= turn.request;
}

element("restart").onclick = () => {
  halt();
  turns.length = 0;
  element("turns").replaceChildren();
  tell("");
  fields.request.focus();
};

fields.request.onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
};
