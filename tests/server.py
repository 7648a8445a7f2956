"""Run a server with a tiny model on loopback."""

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
from slm.inference import TextGenerator
from slm.serve.api import Server
from slm.serve.engine import Engine
from slm.tokenizer.tokenizer import encode, train_bpe
from tests.tiny import sample_params, shaken

TEXT = "Once upon a time there was a naïve little 🦆. It said: “Quack!”\n\nThen it swam away. The end."


class Running(NamedTuple):
    server: Server
    generator: TextGenerator
    url: str


def tiny_generator() -> TextGenerator:
    """Return a random model. It seldom generates <|endoftext|>, and never does at temperature 0."""
    tokenizer = train_bpe([TEXT] * 3, 340)
    shape = {"architecture": "rope", "n_head": 2, "n_embd": 16, "block_size": 16}
    model = shaken(tokenizer.get_vocab_size(), **shape)
    generator = TextGenerator(model, tokenizer)
    with torch.no_grad():
        model.head_weight[generator.end_of_text] *= 0.7
    return generator


@contextmanager
def serving(generator: TextGenerator) -> Iterator[Running]:
    """Run a server in a thread."""
    server = Server(generator)
    with bind("127.0.0.1", 0) as listener:
        thread = Thread(target=server.run, args=([listener],))
        thread.start()
        wait_for(lambda: server.started)
        yield Running(server, generator, f"http://127.0.0.1:{listener.getsockname()[1]}")
        server.should_exit = True
        thread.join()


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until a condition holds, and fail if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"timeout after {seconds} s"
        time.sleep(0.005)


@contextmanager
def openai_client(running: Running) -> Iterator[openai.OpenAI]:
    """Open an OpenAI client of the server, without retries."""
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@contextmanager
def idle_engine(running: Running) -> Iterator[Engine]:
    """Yield the engine once it is idle; on exit, wait until it is idle again."""
    engine = running.server.engine
    wait_for(lambda: engine.n_sequences == 0)
    yield engine
    wait_for(lambda: engine.n_sequences == 0)


def check_disconnect_aborts(running: Running, engine: Engine, path: str, body: dict[str, Any]) -> None:
    """Request three long choices, disconnect while they are generated, and wait until they are aborted."""
    connection = HTTPConnection(urlsplit(running.url).netloc)
    connection.request("POST", path, json.dumps({**body, "n": 3}), {"Content-Type": "application/json"})
    if body["stream"]:
        assert connection.getresponse().readline().startswith(b"data: ")
    wait_for(lambda: engine.n_sequences == 3)
    connection.close()
    connection.sock = None
    wait_for(lambda: engine.n_sequences == 0)


def post(
    url: str,
    body: Any,
    path: str = "/v1/completions",
    method: str = "POST",
    content_type: str = "application/json",
) -> tuple[int, Any]:
    """Send a body, as JSON unless it is bytes; return the status and the JSON of the response."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, body, {"Content-Type": content_type})
        response = connection.getresponse()
        assert response.headers["Access-Control-Allow-Origin"] is None
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def join_chunks(
    chunks: Iterable[Completion],
) -> tuple[dict[int, str], dict[int, str], CompletionUsage | None]:
    """Return the text and the finish reason of each choice of a stream, and the usage of its last chunk."""
    texts: dict[int, str] = {}
    reasons: dict[int, str] = {}
    usage = None
    for chunk in chunks:
        usage = chunk.usage
        for choice in chunk.choices:
            assert choice.index not in reasons, "a chunk follows the finish reason"
            texts[choice.index] = texts.get(choice.index, "") + choice.text
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    return texts, reasons, usage


def generate_texts(generator: TextGenerator, prompt: str = "", **changes: Any) -> list[str]:
    """Generate the samples of a prompt without a server."""
    params = sample_params(**{"num_samples": 1, "max_new_tokens": 16, **changes})
    texts = generate(generator.model, [encode(generator.tokenizer, prompt)], params, generator.end_of_text)
    return [generator.tokenizer.decode(ids) for ids in texts[0]]
