"""What a client reads instead of an answer: an error in OpenAI's form."""

import json
import re
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from slm.core.config import SHORT


class NoAnswer(Exception):  # noqa: N818, for it is no error that a client leaves
    """Why there is no answer, or no whole one, with a status of HTTP and the field that is at fault."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status = status
        kind = "server_error" if status >= 500 else "invalid_request_error"
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def answer_errors(app: FastAPI) -> None:
    """Have an app answer whatever goes wrong in OpenAI's form."""

    @app.exception_handler(NoAnswer)
    async def no_answer(_: Request, error: NoAnswer) -> Response:
        return json_response(error.body, error.status)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return await no_answer(request, NoAnswer(error.status_code, error.detail))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        supported = list(request.scope["endpoint"].__annotations__["asked"].model_fields)
        fields, lines = zip(*(_describe(e, supported) for e in error.errors()), strict=True)
        return await no_answer(request, NoAnswer(400, "; ".join(lines), param=fields[0]))


def json_response(content: dict[str, Any], status: int = 200) -> Response:
    """In ASCII, which holds what UTF-8 cannot, half a surrogate pair."""
    return Response(json.dumps(content), status, media_type="application/json")


def _describe(error: dict[str, Any], supported: list[str]) -> tuple[str | None, str]:
    """The field of one of pydantic's errors, and in words what is wrong with it and what is allowed.

    `supported` are the fields of the body.
    """
    if error["type"] == "json_invalid":
        return None, f"the body is not valid JSON: {error['ctx']['error']}"
    field = ".".join(str(part) for part in error["loc"][1:]) or None  # the first part is "body"
    name, message = field or "the body", error["msg"]
    if error["type"] == "extra_forbidden":
        others = f"; supported: {', '.join(supported)}" if len(error["loc"]) == 2 else ""
        return field, f"{name} is not supported{others}"
    if error["type"] == "value_error":  # our own checks name the value
        return field, f"{name}: {message.removeprefix('Value error, ')}"
    if "should" not in message:
        return field, f"{name}: {message}"
    problem = re.sub(r"^[\w ]+ should ", "must ", message)
    return field, f"{name}: {problem}, got {SHORT.repr(error['input'])}"
