"""The HTTP server: OpenAI's completions and chat completions, and a web page for both."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slm.inference import TextGenerator
from slm.serve.completions import BaseCompletion, ChatCompletion, Completion, get_token_names
from slm.serve.engine import Engine, RequestHandle
from slm.serve.errors import APIError, add_error_handlers, json_response
from slm.serve.page import render_page
from slm.serve.params import MAX_BODY_BYTES, MODEL, ChatRequest, CompletionRequest

# How long clients that do not read their response may delay the end of the server.
SHUTDOWN_SECONDS = 3


class Server(uvicorn.Server):
    """A uvicorn server that aborts all requests when it stops, instead of waiting for them."""

    def __init__(self, generator: TextGenerator):
        self.engine = Engine(generator)
        app = create_app(generator, self.engine)
        super().__init__(
            uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=SHUTDOWN_SECONDS)
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.engine.close()
        await super().shutdown(sockets)


def create_app(generator: TextGenerator, engine: Engine) -> FastAPI:
    """Return the server's app. The engine runs as long as the app."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with engine:
            yield

    # FastAPI's documentation pages load scripts from other sites, so they are off.
    app = FastAPI(lifespan=lifespan, openapi_url=None)
    app.add_middleware(BodyLimit)
    add_error_handlers(app)
    page, token_names, created = render_page(generator.model), get_token_names(generator), int(time.time())

    @app.get("/")
    async def get_page() -> HTMLResponse:
        return HTMLResponse(page)

    @app.get("/v1/models")
    async def list_models() -> Response:
        model = {"id": MODEL, "object": "model", "created": created, "owned_by": "slm"}
        return json_response({"object": "list", "data": [model]})

    @app.post("/v1/completions")
    async def create_completion(body: CompletionRequest, request: Request) -> Response:
        return await respond(Completion(body, generator, token_names), body.stream, request)

    @app.post("/v1/chat/completions")
    async def create_chat_completion(body: ChatRequest, request: Request) -> Response:
        return await respond(ChatCompletion(body, generator), body.stream, request)

    async def respond(completion: BaseCompletion, stream: bool, request: Request) -> Response:
        handle = engine.submit(list(completion.choices))
        if stream:
            return EventStream(completion, handle)
        watcher = asyncio.create_task(_fail_on_disconnect(request, handle))
        try:
            return json_response(await completion.response(handle))
        finally:
            watcher.cancel()
            handle.abort()

    return app


class EventStream(StreamingResponse):
    """A completion as server-sent events. Its sequences are aborted however it ends."""

    def __init__(self, completion: BaseCompletion, handle: RequestHandle):
        super().__init__(
            completion.stream(handle), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._handle.abort()


class BodyLimit:
    """Middleware that refuses a body of more than MAX_BODY_BYTES before all of it is in memory."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        n_bytes = 0

        async def receive_limited() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > MAX_BODY_BYTES:
                raise HTTPException(413, f"the body must have at most {MAX_BODY_BYTES} bytes")
            return message

        await self._app(scope, receive_limited, send)


async def _fail_on_disconnect(request: Request, handle: RequestHandle) -> None:
    """Fail a request once its client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    # 499 is nginx's status for a closed connection. No one receives it.
    handle.fail(APIError(499, "the client closed the connection"))
