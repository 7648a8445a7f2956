"""Serve a trained model: OpenAI's completions over HTTP, and a page to write with.

    python -m slm.cli.serve [--model models] [--host 127.0.0.1] [--port 8000]

There is no authentication: whoever can reach the port can have texts written.
"""

import argparse
import os
import socket
from contextlib import suppress
from pathlib import Path

import uvicorn

from slm.core.errors import UserError, run_command
from slm.inference import Writer, load
from slm.serve.api import create_app
from slm.serve.engine import Engine

SECONDS_TO_END = 3  # for clients that do not read what they are sent


class Server(uvicorn.Server):
    """uvicorn's server; as it stops, texts on their way stop too, which it would wait for."""

    def __init__(self, writer: Writer):
        self.engine = Engine(writer)
        app = create_app(writer, self.engine)
        super().__init__(
            uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=SECONDS_TO_END)
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.engine.close()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections. Raises UserError if there can be none at this address."""
    if not 0 <= port <= 65535:
        raise UserError(f"--port: must be 1 to 65535, or 0 for any free port, got {port}")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(f"--host: {host!r}: {getattr(error, 'strerror', error)}") from None
    try:
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: {os.strerror(error.errno)}") from None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m slm.cli.serve", description="Serve a trained model.")
    parser.add_argument("--model", type=Path, default=Path("models"), help="the folder it is in")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: whoever reaches this machine may write")
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
    args = parser.parse_args()
    with listen(args.host, args.port) as listening:
        server = Server(load(args.model))
        host, port = listening.getsockname()[:2]
        print(f"http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
        with suppress(KeyboardInterrupt):  # which is how it is meant to end
            server.run(sockets=[listening])


if __name__ == "__main__":
    run_command(main)
