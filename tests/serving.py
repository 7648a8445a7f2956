"""A server with a tiny model, on loopback."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import NamedTuple

import torch

from slm.model.gpt import new_gpt
from slm.serve import Server, listen
from slm.text.writer import Writer
from slm.tokens.tokenizer import train_bpe
from tests.tiny import model_params

TEXT = "Once upon a time there was a naïve little 🦆. It said: “Quack!”\n\nThen it swam away. The end."


class Running(NamedTuple):
    server: Server
    writer: Writer
    url: str


def tiny_writer() -> Writer:
    """Writes nonsense, and seldom ends by itself; at temperature 0 not at all."""
    tokenizer = train_bpe([TEXT] * 3, 340)
    torch.manual_seed(0)
    params = model_params(architecture="modern", n_head=2, n_embd=16, block_size=16)
    model = new_gpt(params, tokenizer.get_vocab_size()).eval()
    writer = Writer(model, tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter) * 0.3
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
