"""The engine: a thread that owns the model and generates the sequences of all clients in one batch.

The event loop maps sequences to requests; the thread owns the batch and the queue of waiting sequences. They
share no state but `_is_open`, and send each other messages. Sequences join and leave between two steps.
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
from slm.inference import TextGenerator
from slm.serve.errors import APIError

# Sequences in the batch. It bounds memory and the time of a step.
MAX_RUNNING = 64
MAX_WAITING = 256


class Engine:
    """Generates sequences within its `async with` block. All public methods are for the event loop."""

    def __init__(self, generator: TextGenerator):
        self._new_batch = partial(Batch, generator.model, generator.end_of_text)
        # Messages to the thread: functions that it calls.
        self._inbox: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._thread = Thread(target=self._run, name="engine")
        # Set by the event loop, read by the thread.
        self._is_open = True
        # Used by the event loop only.
        self._handles: dict[Sequence, RequestHandle] = {}
        # Used by the thread only.
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
        """Abort all requests and end the thread."""
        self._is_open = False
        self._fail(APIError(503, "the server is stopping"))

    @property
    def n_sequences(self) -> int:
        """Return the number of sequences that are running or waiting."""
        return len(self._handles)

    def submit(self, sequences: list[Sequence]) -> "RequestHandle":
        """Queue the sequences of a request. Raises APIError if the queue is full or the engine is closed."""
        if not self._is_open:
            raise APIError(503, "the server is stopping")
        if self.n_sequences + len(sequences) > MAX_RUNNING + MAX_WAITING:
            raise APIError(503, f"the server is busy with {self.n_sequences} sequences; try again later")
        handle = RequestHandle(self, sequences)
        self._handles |= dict.fromkeys(sequences, handle)
        self._inbox.put(partial(self._waiting.extend, sequences))
        return handle

    def abort(self, sequences: list[Sequence]) -> None:
        """Stop generating sequences. Those that are finished are ignored."""
        aborted = [sequence for sequence in sequences if self._handles.pop(sequence, None)]
        self._inbox.put(partial(_mark_finished, aborted))

    def _deliver(self, tokens: list[SampledToken], finished: list[Sequence]) -> None:
        """Pass the tokens of a step to their requests."""
        for token in tokens:
            if handle := self._handles.get(token.sequence):
                handle.put(token)
        for sequence in finished:
            self._handles.pop(sequence, None)

    def _fail(self, error: APIError) -> None:
        """Fail all requests. The message to the thread also wakes it up."""
        for handle in self._handles.values():
            handle.fail(error)
        self.abort(list(self._handles))

    def _run(self) -> None:
        """Run the thread: generate until the engine is closed."""
        while self._process_inbox():
            try:
                self._admit()
                tokens = self._batch.step()
                finished = [token.sequence for token in tokens if token.sequence.finished]
                self._loop.call_soon_threadsafe(self._deliver, tokens, finished)
            # Whatever the error is, clients must get a response and the server must continue.
            except Exception as error:
                logging.getLogger(__name__).exception("generation failed")
                self._batch = self._new_batch()
                self._waiting.clear()
                failure = APIError(500, f"generation failed: {error}")
                self._loop.call_soon_threadsafe(self._fail, failure)

    def _process_inbox(self) -> bool:
        """Call the functions in the inbox; wait for one while idle. Returns False once closed."""
        while self._is_open:
            is_idle = self._batch.is_finished and not self._waiting
            try:
                self._inbox.get(block=is_idle)()
            except Empty:
                return True
        return False

    def _admit(self) -> None:
        """Move waiting sequences into the batch, prompt by prompt.

        Different prompts are not prefilled in one pass: padding them to the longest would take memory.
        """
        n_free = MAX_RUNNING - sum(not sequence.finished for sequence in self._batch.sequences)
        while n_free and self._waiting:
            prompt = self._waiting[0].prompt
            joining: list[Sequence] = []
            while self._waiting and self._waiting[0].prompt == prompt and len(joining) < n_free:
                sequence = self._waiting.popleft()
                # It may have been aborted while it waited.
                if not sequence.finished:
                    joining.append(sequence)
            if joining:
                self._batch.add(joining)
            n_free -= len(joining)


class RequestHandle:
    """The sequences of one request, and their tokens that were not read yet."""

    def __init__(self, engine: Engine, sequences: list[Sequence]):
        self._engine, self._sequences = engine, sequences
        self._tokens: list[SampledToken] = []
        self._error: APIError | None = None
        self._is_ready = asyncio.Event()

    async def read(self) -> list[SampledToken]:
        """Wait for tokens and return all since the last call. Raises APIError if the request failed."""
        await self._is_ready.wait()
        self._is_ready.clear()
        if self._error:
            raise self._error
        tokens, self._tokens = self._tokens, []
        return tokens

    def abort(self, sequences: list[Sequence] | None = None) -> None:
        """Stop generating these sequences, or all of the request."""
        self._engine.abort(self._sequences if sequences is None else sequences)

    def put(self, token: SampledToken) -> None:
        """Add a token, and wake the reader."""
        self._tokens.append(token)
        self._is_ready.set()

    def fail(self, error: APIError) -> None:
        """Make `read` raise an error, and wake the reader."""
        self._error = error
        self._is_ready.set()


def _mark_finished(sequences: list[Sequence]) -> None:
    for sequence in sequences:
        sequence.finished = True
