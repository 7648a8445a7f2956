"""The server under load: tokens a second of all clients, and how long each waits for its first token.

    python -m benchmarks.serve [--model models] [--clients 1 8 32] [--requests 20] [--tokens 200]

The server is a process of its own; all clients are in this one, on the same machine. Each has one stream
after another written from nothing, with other seeds. Tokens are as the server counts them.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks.peers import machine
from slm.core.errors import UserError, run_command


class Load(NamedTuple):
    """What clients found together: seconds until the first token of each text, tokens, and seconds in all."""

    waits: list[float]
    n_tokens: int
    seconds: float


async def write(host: str, port: int, n_tokens: int, seed: int) -> tuple[float, int]:
    """Have a text written: seconds until its first token, and how many there were."""
    options = {"include_usage": True}
    body = json.dumps({"max_tokens": n_tokens, "seed": seed, "stream": True, "stream_options": options})
    head = [
        "POST /v1/completions HTTP/1.1",
        f"Host: {host}",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    start = time.perf_counter()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write("\r\n".join([*head, "", body]).encode())
    wait, written = None, 0
    async for line in reader:
        if line.startswith(b"data: {"):
            wait = wait or time.perf_counter() - start
            written = (json.loads(line[6:]).get("usage") or {"completion_tokens": 0})["completion_tokens"]
    writer.close()
    if wait is None or not written:
        raise UserError("a client was not answered")
    return wait, written


async def load(host: str, port: int, n_clients: int, n_requests: int, n_tokens: int) -> Load:
    """Have so many clients write so many texts each, one after the other."""

    async def client(number: int) -> list[tuple[float, int]]:
        seeds = range(number * n_requests, (number + 1) * n_requests)
        return [await write(host, port, n_tokens, seed) for seed in seeds]

    start = time.perf_counter()
    found = [one for texts in await asyncio.gather(*map(client, range(n_clients))) for one in texts]
    seconds = time.perf_counter() - start
    return Load([wait for wait, _ in found], sum(n for _, n in found), seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the server under load.")
    parser.add_argument("--model", type=Path, default=Path("models"))
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--requests", type=int, default=20, help="of each client")
    parser.add_argument("--tokens", type=int, default=200, help="of a text, at most")
    args = parser.parse_args()
    if min(*args.clients, args.requests - 1, args.tokens) < 1:
        parser.error("--clients and --tokens: must be at least 1, --requests 2")
    command = [sys.executable, "-m", "slm", "serve", "--model", str(args.model), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = urlsplit(server.stdout.readline().strip())
            if not url.hostname:
                raise UserError("the server did not start")
            asyncio.run(load(url.hostname, url.port, 1, 1, args.tokens))  # what starts up does not count
            print("| clients | tok/s in all | first token, ms, median | 95 % |\n|---:|---:|---:|---:|")
            for n_clients in args.clients:
                found = asyncio.run(load(url.hostname, url.port, n_clients, args.requests, args.tokens))
                waits = [1000 * wait for wait in found.waits]
                rate, slow = found.n_tokens / found.seconds, quantiles(waits, n=20, method="inclusive")[-1]
                print(f"| {n_clients} | {rate:,.0f} | {median(waits):.0f} | {slow:.0f} |", flush=True)
        finally:
            server.terminate()
    what = f"{args.requests} texts of each client, of at most {args.tokens} tokens"
    print(f"\n{what}. {machine('fastapi', 'uvicorn')}.")


if __name__ == "__main__":
    run_command(main)
