// ---- The tab Chat: a conversation, which each request sends completely.

const turns = [];
const contextMark = make("p", { className: "quiet", textContent: "The turns above no longer fit into the context." });

class Turn {
  constructor(message) {
    this.message = message;
    this.answer = "";
    this.body = make("article");
    this.answerBody = make("p", { className: "text" });
    this.body.append(make("p", { className: "message", textContent: message }), this.answerBody);
    element("turns").append(this.body);
  }

  // Add a choice of a chunk.
  add({ delta, finish_reason }) {
    this.answer += delta.content;
    this.answerBody.append(delta.content);
    this.finish_reason = finish_reason;
  }

  get messages() {
    return [{ role: "user", content: this.message }, { role: "assistant", content: this.answer }];
  }
}

async function sendMessage() {
  const turn = new Turn(fields.message.value.trim());
  turns.push(turn);
  fields.message.value = "";
  turn.body.scrollIntoView({ block: "nearest" });
  // A screen reader waits for the complete answer.
  element("turns").ariaBusy = true;
  const messages = turns.flatMap((item) => item.messages).slice(0, -1);
  const failure = await request("v1/chat/completions", { ...settings(), messages }, (chunk) => {
    // Scroll along only if the end of the answer is visible.
    const isVisible = turn.body.getBoundingClientRect().bottom < innerHeight;
    markForgotten(chunk.forgotten_turns);
    turn.add(chunk.choices[0]);
    if (isVisible) turn.body.scrollIntoView({ block: "nearest" });
  });
  element("turns").ariaBusy = nPending > 0;
  turn.answerBody.append(endMark(turn.finish_reason));
  if (failure && !turn.answer) withdraw(turn);
}

// Mark the first n turns, which were dropped from the context.
function markForgotten(n) {
  turns.forEach((turn, i) => turn.body.classList.toggle("forgotten", i < n));
  n ? turns[n - 1].body.after(contextMark) : contextMark.remove();
}

// Return an unanswered message to its field, where it can be changed and sent again.
function withdraw(turn) {
  turns.splice(turns.indexOf(turn), 1);
  turn.body.remove();
  fields.message.value ||= turn.message;
}

element("clear").onclick = () => {
  abort();
  turns.length = 0;
  element("turns").replaceChildren();
  setStatus("");
  fields.message.focus();
};

fields.message.onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
};
