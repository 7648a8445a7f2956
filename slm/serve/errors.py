"""Errors in OpenAI's format."""

import json
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from slm.core.config import format_errors


class APIError(Exception):
    """An error response: an HTTP status, a message, and the request's field that caused it, if any."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status = status
        error_type = "server_error" if status >= 500 else "invalid_request_error"
        self.body = {"error": {"message": message, "type": error_type, "param": param, "code": code}}


def add_error_handlers(app: FastAPI) -> None:
    """Make an app return all errors in OpenAI's format."""

    @app.exception_handler(APIError)
    async def api_error(_: Request, error: APIError) -> Response:
        return json_response(error.body, error.status)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return await api_error(request, APIError(error.status_code, error.detail))

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> Response:
        errors = list(error.errors())
        if errors[0]["type"] == "json_invalid":
            message = f"the body is not valid JSON: {errors[0]['ctx']['error']}"
            return await api_error(request, APIError(400, message))
        # Locations begin with "body". As a prefix it keeps keys apart from the renamed ones of params.yaml.
        for detail in errors:
            detail["loc"] = detail["loc"][1:]
        schema = request.scope["endpoint"].__annotations__["body"]
        problems = {
            key.removeprefix("body").removeprefix("."): problem
            for key, problem in format_errors(errors, schema, prefix="body").items()
        }
        message = "; ".join(f"{key or 'the body'}: {problem}" for key, problem in problems.items())
        return await api_error(request, APIError(400, message, param=next(iter(problems)) or None))


def json_response(content: dict[str, Any], status: int = 200) -> Response:
    """Return a JSON response in ASCII: an error may quote a lone surrogate, which UTF-8 cannot encode."""
    return Response(json.dumps(content), status, media_type="application/json")
