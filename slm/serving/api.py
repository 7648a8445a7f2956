"""HTTP: OpenAI's completions, and a page to write with."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slm.serving.answers import Answer, token_names
from slm.serving.engine import Engine, Order
from slm.serving.errors import NoAnswer, answer_errors, json_response
from slm.serving.params import MAX_BYTES, MODEL, CompletionRequest
from slm.text.writer import Writer

PAGE = Path(__file__).with_name("page.html")
LOOK = Path(__file__).parents[1] / "report/page.css"  # the project's pages look alike


def create_app(writer: Writer, engine: Engine) -> FastAPI:
    """The server's app, in which the engine lives."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with engine:
            yield

    app = FastAPI(lifespan=lifespan, openapi_url=None)  # FastAPI's own pages load from elsewhere
    app.add_middleware(BodyLimit)
    answer_errors(app)
    page, names, created = page_to_write_with(), token_names(writer), int(time.time())

    @app.get("/")
    async def write() -> HTMLResponse:
        return HTMLResponse(page)

    @app.get("/v1/models")
    async def models() -> Response:
        model = {"id": MODEL, "object": "model", "created": created, "owned_by": "slm"}
        return json_response({"object": "list", "data": [model]})

    @app.post("/v1/completions")
    async def completions(asked: CompletionRequest, request: Request) -> Response:
        answer = Answer(asked, writer, names)
        order = engine.order(list(answer.choices))
        if asked.stream:
            return EventStream(answer, order)
        watch = asyncio.create_task(_fail_when_left(request, order))
        try:
            return json_response(await answer.whole(order))
        finally:
            watch.cancel()
            order.give_up()

    return app


def page_to_write_with() -> str:
    """It works offline: its style and script are in it."""
    return PAGE.read_text(encoding="utf-8").replace("LOOK", LOOK.read_text(encoding="utf-8"))


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
