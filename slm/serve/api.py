"""HTTP: OpenAI's completions and chats, and a page for both."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slm.inference import Writer
from slm.serve.answers import Answer
from slm.serve.chat import ChatCompletion
from slm.serve.completions import Completion, token_names
from slm.serve.engine import Engine, Order
from slm.serve.errors import NoAnswer, answer_errors, json_response
from slm.serve.page import page_of
from slm.serve.params import MAX_BYTES, MODEL, ChatRequest, CompletionRequest

# How long clients that do not read their response may delay the end of the server.
SHUTDOWN_SECONDS = 3


class Server(uvicorn.Server):
    """A uvicorn server that aborts all requests when it stops, instead of waiting for them."""

    def __init__(self, writer: Writer):
        self.engine = Engine(writer)
        app = create_app(writer, self.engine)
        super().__init__(
            uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=SHUTDOWN_SECONDS)
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.engine.close()
        await super().shutdown(sockets)


def create_app(writer: Writer, engine: Engine) -> FastAPI:
    """The server's app, in which the engine lives."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with engine:
            yield

    app = FastAPI(lifespan=lifespan, openapi_url=None)  # FastAPI's own pages load from elsewhere
    app.add_middleware(BodyLimit)
    answer_errors(app)
    page, names, created = page_of(writer.model), token_names(writer), int(time.time())

    @app.get("/")
    async def look() -> HTMLResponse:
        return HTMLResponse(page)

    @app.get("/v1/models")
    async def models() -> Response:
        model = {"id": MODEL, "object": "model", "created": created, "owned_by": "slm"}
        return json_response({"object": "list", "data": [model]})

    @app.post("/v1/completions")
    async def completions(asked: CompletionRequest, request: Request) -> Response:
        return await respond(Completion(asked, writer, names), asked.stream, request)

    @app.post("/v1/chat/completions")
    async def chat_completions(asked: ChatRequest, request: Request) -> Response:
        return await respond(ChatCompletion(asked, writer), asked.stream, request)

    async def respond(answer: Answer, stream: bool, request: Request) -> Response:
        order = engine.order(list(answer.choices))
        if stream:
            return EventStream(answer, order)
        watch = asyncio.create_task(_fail_when_left(request, order))
        try:
            return json_response(await answer.whole(order))
        finally:
            watch.cancel()
            order.give_up()

    return app


class EventStream(StreamingResponse):
    """An answer as a stream of events. Whenever and however it ends, its texts are written no further."""

    def __init__(self, answer: Answer, order: Order):
        super().__init__(
            answer.events(order), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )
        self._order = order

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._order.give_up()


class BodyLimit:
    """Refuses a body that is too large, before all of it is in memory."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        n_bytes = 0

        async def receive_some() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > MAX_BYTES:
                raise HTTPException(413, f"the body has more than {MAX_BYTES} bytes")
            return message

        await self._app(scope, receive_some, send)


async def _fail_when_left(request: Request, order: Order) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    order.fail(NoAnswer(499, "the client has left"))  # as nginx calls it; nobody reads it
