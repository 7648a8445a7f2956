"""`slm serve`: serve a trained model over HTTP."""

import argparse
import os
import socket
from contextlib import suppress
from pathlib import Path

from slm.core.errors import UserError

DESCRIPTION = """\
Serve a trained model over HTTP: a web page at /, and OpenAI's completions and chat completions at /v1.

There is no authentication: everyone who can reach the port can generate text."""
EXAMPLES = """\
examples:
  slm serve
  slm serve --model models/wishes --host 0.0.0.0 --port 80"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `slm serve`, its description and examples."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("models"),
        metavar="DIR",
        help="folder of the trained model (default: %(default)s)",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on; 0.0.0.0 exposes the server to the network (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=8000,
        metavar="INT",
        help="TCP port to listen on, 1 to 65535; 0: any free port (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> None:
    """Serve until an interrupt. The first line on stdout is the server's URL."""
    with bind(args.host, args.port) as listener:
        # torch takes a second to import: a wrong port or address is reported without it.
        from slm.inference import load
        from slm.serve.api import Server

        server = Server(load(args.model))
        host, port = listener.getsockname()[:2]
        print(f"http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
        # Ctrl-C is the usual way to stop the server.
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises UserError if the address is invalid or in use."""
    if not 0 <= port <= 65535:
        raise UserError(f"--port: must be 1 to 65535, or 0 for any free port, got {port}")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(f"--host: {host!r}: {getattr(error, 'strerror', error)}") from None
    try:
        return socket.create_server(address[:2], family=family)
    # The error's own text repeats the address.
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: {os.strerror(error.errno or 0)}") from None
