"""What a client reads instead of an answer: an error in OpenAI's form."""

import json
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from slm.core.config import format_errors


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
        errors = list(error.errors())
        if errors[0]["type"] == "json_invalid":
            return await no_answer(
                request, NoAnswer(400, f"the body is not valid JSON: {errors[0]['ctx']['error']}")
            )
        # Locations begin with "body".
        for detail in errors:
            detail["loc"] = detail["loc"][1:]
        problems = format_errors(errors, request.scope["endpoint"].__annotations__["asked"])
        lines = "; ".join(f"{field or 'the body'}: {problem}" for field, problem in problems.items())
        return await no_answer(request, NoAnswer(400, lines, param=next(iter(problems)) or None))


def json_response(content: dict[str, Any], status: int = 200) -> Response:
    """In ASCII, which holds what UTF-8 cannot, half a surrogate pair."""
    return Response(json.dumps(content), status, media_type="application/json")
