"""The worker: one thread that has the model, and writes the texts of all clients as one batch.

The event loop knows who waits for which text; the thread has the batch, and the texts that wait for a place.
Each keeps its own and sends the other messages. Texts come and go between two steps.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Self

from slm.generate.batch import Batch, SampledToken, Sequence
from slm.inference import Writer
from slm.serve.errors import NoAnswer

MAX_WRITTEN = 64  # texts at once, so that memory and the time of a step are bounded
MAX_WAITING = 256


class Engine:
    """Writes the texts that it is given, while it is entered. Its methods are for the event loop."""

    def __init__(self, writer: Writer):
        self._new_batch = partial(Batch, writer.model, writer.end_of_text)
        self._inbox: SimpleQueue[Callable[[], object]] = SimpleQueue()  # what the thread is to do
        self._thread = Thread(target=self._work, name="engine")
        # The event loop's:
        self._order_of: dict[Sequence, Order] = {}
        self._is_open = True  # the thread looks at it, too
        # The thread's:
        self._batch = self._new_batch()
        self._waiting: deque[Sequence] = deque()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await asyncio.to_thread(self._thread.join)

    def close(self) -> None:
        """Write no more."""
        self._is_open = False
        self._fail(NoAnswer(503, "the server is stopping"))

    @property
    def n_texts(self) -> int:
        """How many wait or are being written."""
        return len(self._order_of)

    def order(self, texts: list[Sequence]) -> "Order":
        """Have texts written. Raises NoAnswer if too many wait already, or the engine is closed."""
        if not self._is_open:
            raise NoAnswer(503, "the server is stopping")
        if self.n_texts + len(texts) > MAX_WRITTEN + MAX_WAITING:
            raise NoAnswer(503, f"the server is busy with {self.n_texts} texts; try again later")
        order = Order(self, texts)
        self._order_of |= dict.fromkeys(texts, order)
        self._inbox.put(partial(self._waiting.extend, texts))
        return order

    def give_up(self, texts: list[Sequence]) -> None:
        """Have texts written no further; some may have ended."""
        given_up = [text for text in texts if self._order_of.pop(text, None)]
        self._inbox.put(partial(_end, given_up))

    def _deliver(self, news: list[SampledToken], ended: list[Sequence]) -> None:
        for written in news:
            if order := self._order_of.get(written.sequence):
                order.take(written)
        for text in ended:
            self._order_of.pop(text, None)

    def _fail(self, failure: NoAnswer) -> None:
        """Tell all who wait, and wake the thread if it does."""
        for order in self._order_of.values():
            order.fail(failure)
        self.give_up(list(self._order_of))

    def _work(self) -> None:
        """All that the thread does."""
        while self._has_work():
            try:
                self._give_places()
                news = self._batch.step()
                ended = [written.sequence for written in news if written.sequence.finished]
                self._loop.call_soon_threadsafe(self._deliver, news, ended)
            except Exception as error:  # whatever it is: those who wait must know, and others may come
                logging.getLogger(__name__).exception("texts could not be written")
                self._batch = self._new_batch()
                self._waiting.clear()
                failure = NoAnswer(500, f"the texts could not be written: {error}")
                self._loop.call_soon_threadsafe(self._fail, failure)

    def _has_work(self) -> bool:
        """Do what the event loop wants, and wait while there is nothing to write. False once it is closed."""
        while self._is_open:
            is_idle = self._batch.is_finished and not self._waiting
            try:
                self._inbox.get(block=is_idle)()
            except Empty:
                return True
        return False

    def _give_places(self) -> None:
        """Let texts join, prompt by prompt: to read different prompts in one pass takes more memory."""
        n_free = MAX_WRITTEN - sum(not text.finished for text in self._batch.sequences)
        while n_free and self._waiting:
            prompt = self._waiting[0].prompt
            joining: list[Sequence] = []
            while self._waiting and self._waiting[0].prompt == prompt and len(joining) < n_free:
                joining += [text for text in [self._waiting.popleft()] if not text.finished]
            if joining:
                self._batch.join(joining)
            n_free -= len(joining)


class Order:
    """Texts of one client, on their way."""

    def __init__(self, engine: Engine, texts: list[Sequence]):
        self._engine, self._texts = engine, texts
        self._news: list[SampledToken] = []
        self._failure: NoAnswer | None = None
        self._is_news = asyncio.Event()

    async def read(self) -> list[SampledToken]:
        """What was written since the last call, a token or more. Raises NoAnswer if no more will be."""
        await self._is_news.wait()
        self._is_news.clear()
        if self._failure:
            raise self._failure
        news, self._news = self._news, []
        return news

    def give_up(self, texts: list[Sequence] | None = None) -> None:
        """Have these written no further, or all of them."""
        self._engine.give_up(self._texts if texts is None else texts)

    def take(self, written: SampledToken) -> None:
        """For the engine: something was written."""
        self._news.append(written)
        self._is_news.set()

    def fail(self, failure: NoAnswer) -> None:
        """Nothing more will be written."""
        self._failure = failure
        self._is_news.set()


def _end(texts: list[Sequence]) -> None:
    for text in texts:
        text.finished = True
