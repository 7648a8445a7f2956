"""Measure the server under load: throughput of all clients, and time to the first token.

    python -m benchmarks.serve [--model models] [--clients 1 8 32] [--requests 20] [--tokens 200]

The server is a separate process on the same machine; all clients share this process. Each client sends one
streaming request after another, without a prompt and with a new seed. The server counts the tokens.
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

from benchmarks.references import describe_machine
from slm.core.errors import UserError, run_command


class LoadResult(NamedTuple):
    """Seconds to the first token of each request, number of tokens, and duration in seconds."""

    first_token_seconds: list[float]
    n_tokens: int
    seconds: float


async def send_request(host: str, port: int, n_tokens: int, seed: int) -> tuple[float, int]:
    """Send a request. Return the seconds to its first token, and the number of tokens.

    Raises UserError if there is no answer.
    """
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
    first_token_seconds, n_received = None, 0
    async for line in reader:
        if line.startswith(b"data: {"):
            first_token_seconds = first_token_seconds or time.perf_counter() - start
            usage = json.loads(line[6:]).get("usage") or {"completion_tokens": 0}
            n_received = usage["completion_tokens"]
    writer.close()
    if first_token_seconds is None or not n_received:
        raise UserError("the server did not answer a request")
    return first_token_seconds, n_received


async def run_clients(host: str, port: int, n_clients: int, n_requests: int, n_tokens: int) -> LoadResult:
    """Run clients in parallel, each of which sends its requests one after the other."""

    async def client(number: int) -> list[tuple[float, int]]:
        seeds = range(number * n_requests, (number + 1) * n_requests)
        return [await send_request(host, port, n_tokens, seed) for seed in seeds]

    start = time.perf_counter()
    per_client = await asyncio.gather(*map(client, range(n_clients)))
    seconds = time.perf_counter() - start
    answers = [answer for answers in per_client for answer in answers]
    return LoadResult([first for first, _ in answers], sum(n for _, n in answers), seconds)


def main() -> None:
    """Print a row of the table for each number of clients."""
    parser = argparse.ArgumentParser(description="Measure the server under load.")
    parser.add_argument(
        "--model", type=Path, default=Path("models"), help="folder of the model (default: %(default)s)"
    )
    parser.add_argument(
        "--clients",
        type=int,
        nargs="+",
        default=[1, 8, 32],
        help="numbers of parallel clients (default: %(default)s)",
    )
    parser.add_argument("--requests", type=int, default=20, help="requests per client (default: %(default)s)")
    parser.add_argument(
        "--tokens", type=int, default=200, help="maximum tokens per request (default: %(default)s)"
    )
    args = parser.parse_args()
    if min(*args.clients, args.requests - 1, args.tokens) < 1:
        parser.error("--clients and --tokens: must be at least 1, --requests: must be at least 2")
    command = [sys.executable, "-m", "slm", "serve", "--model", str(args.model), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = urlsplit(server.stdout.readline().strip())
            if not url.hostname:
                raise UserError("the server did not start")
            # Warm up.
            asyncio.run(run_clients(url.hostname, url.port, 1, 1, args.tokens))
            header = ["clients", "tok/s (total)", "first token, ms, median", "95th percentile"]
            print(f"| {' | '.join(header)} |\n|---:|---:|---:|---:|")
            for n_clients in args.clients:
                result = asyncio.run(
                    run_clients(url.hostname, url.port, n_clients, args.requests, args.tokens)
                )
                rate = result.n_tokens / result.seconds
                milliseconds = [1000 * seconds for seconds in result.first_token_seconds]
                percentile_95 = quantiles(milliseconds, n=20, method="inclusive")[-1]
                latency = f"{median(milliseconds):.0f} | {percentile_95:.0f}"
                print(f"| {n_clients} | {rate:,.0f} | {latency} |", flush=True)
        finally:
            server.terminate()
    load = f"{args.requests} requests per client, at most {args.tokens} tokens per request"
    print(f"\n{load}. {describe_machine('fastapi', 'uvicorn')}.")


if __name__ == "__main__":
    run_command(main)
