"""A server with a tiny model, on loopback."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import openai
import torch
from openai.types import Completion, CompletionUsage

from slm.cli.serve import bind
from slm.generate.batch import generate
from slm.inference import Writer
from slm.serve.api import Server
from slm.serve.engine import Engine
from slm.tokenizer.tokenizer import encode, train_bpe
from tests.tiny import sample_params, shaken

TEXT = "Once upon a time there was a naïve little 🦆. It said: “Quack!”\n\nThen it swam away. The end."


class Running(NamedTuple):
    server: Server
    writer: Writer
    url: str


def tiny_writer() -> Writer:
    """Writes nonsense, and seldom ends by itself; at temperature 0 not at all."""
    tokenizer = train_bpe([TEXT] * 3, 340)
    shape = {"architecture": "rope", "n_head": 2, "n_embd": 16, "block_size": 16}
    model = shaken(tokenizer.get_vocab_size(), **shape)
    writer = Writer(model, tokenizer)
    with torch.no_grad():
        model.head_weight[writer.end_of_text] *= 0.7
    return writer


@contextmanager
def serving(writer: Writer) -> Iterator[Running]:
    """Run a server in a thread."""
    server = Server(writer)
    with bind("127.0.0.1", 0) as listening:
        thread = Thread(target=server.run, args=([listening],))
        thread.start()
        wait_for(lambda: server.started)
        yield Running(server, writer, f"http://127.0.0.1:{listening.getsockname()[1]}")
        server.should_exit = True
        thread.join()


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until a condition holds, and fail if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@contextmanager
def client_of(running: Running) -> Iterator[openai.OpenAI]:
    """OpenAI's own client, that asks once."""
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@contextmanager
def idle(running: Running) -> Iterator[Engine]:
    """The engine, which has nothing to do before this, and must have nothing to do after it."""
    engine = running.server.engine
    wait_for(lambda: engine.n_texts == 0)
    yield engine
    wait_for(lambda: engine.n_texts == 0)


def ask_for_three_and_leave(running: Running, engine: Engine, path: str, body: dict[str, Any]) -> None:
    """Ask for endless texts, and close the connection while they are written; then they must not be."""
    connection = HTTPConnection(urlsplit(running.url).netloc)
    connection.request("POST", path, json.dumps({**body, "n": 3}), {"Content-Type": "application/json"})
    if body["stream"]:
        assert connection.getresponse().readline().startswith(b"data: ")
    wait_for(lambda: engine.n_texts == 3)
    connection.close()
    connection.sock = None
    wait_for(lambda: engine.n_texts == 0)


def post(
    url: str, body: Any, path: str = "/v1/completions", method: str = "POST", kind: str = "application/json"
) -> tuple[int, Any]:
    """The status and the JSON that a body is answered with; bytes are sent as they are."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, body, {"Content-Type": kind})
        response = connection.getresponse()
        assert response.headers["Access-Control-Allow-Origin"] is None
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def joined(chunks: Iterable[Completion]) -> tuple[dict[int, str], dict[int, str], CompletionUsage | None]:
    """Of a stream: each choice's text and why it ended, and the last chunk's counts."""
    texts: dict[int, str] = {}
    reasons: dict[int, str] = {}
    usage = None
    for chunk in chunks:
        usage = chunk.usage
        for choice in chunk.choices:
            assert choice.index not in reasons, "more comes after the end"
            texts[choice.index] = texts.get(choice.index, "") + choice.text
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    return texts, reasons, usage


def alone(writer: Writer, prompt: str = "", **changes: Any) -> list[str]:
    """What each sample of a prompt is, written without a server."""
    params = sample_params(**{"num_samples": 1, "max_new_tokens": 16, **changes})
    texts = generate(writer.model, [encode(writer.tokenizer, prompt)], params, writer.end_of_text)
    return [writer.tokenizer.decode(ids) for ids in texts[0]]
