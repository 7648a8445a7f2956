"""A server with a tiny model, on loopback."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import NamedTuple

import torch

from slm.serve import Server, listen
from slm.text.writer import Writer
from slm.tokens.tokenizer import train_bpe
from tests.tiny import shaken

TEXT = "Once upon a time there was a naïve little 🦆. It said: “Quack!”\n\nThen it swam away. The end."


class Running(NamedTuple):
    server: Server
    writer: Writer
    url: str


def tiny_writer() -> Writer:
    """Writes nonsense, and seldom ends by itself; at temperature 0 not at all."""
    tokenizer = train_bpe([TEXT] * 3, 340)
    shape = {"architecture": "modern", "n_head": 2, "n_embd": 16, "block_size": 16}
    model = shaken(tokenizer.get_vocab_size(), **shape)
    writer = Writer(model, tokenizer)
    with torch.no_grad():
        model.head_weight[writer.end_of_text] *= 0.7
    return writer


@contextmanager
def serving(writer: Writer) -> Iterator[Running]:
    """Run a server in a thread."""
    server = Server(writer)
    with listen("127.0.0.1", 0) as listening:
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
