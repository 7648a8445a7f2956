"""The command `slm serve`."""

import json
import os
import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from slm.model.gpt import save_model
from tests.imports import imported_files
from tests.project import ROOT, run_slm
from tests.server import tiny_generator


@pytest.fixture
def model(tmp_path):
    """Return a folder with a model."""
    generator = tiny_generator()
    save_model(generator.model, tmp_path)
    generator.tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_serve_prints_its_url_and_ctrl_c_aborts_streams(model):
    command = [sys.executable, "-m", "slm", "serve", "--model", str(model), "--port", "0"]
    env = {**os.environ, "SLM_DEVICE": "cpu"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=env, **pipes) as process:
        url = urlsplit(process.stdout.readline().strip())
        assert url.scheme == "http"
        assert url.hostname == "127.0.0.1"
        connection = HTTPConnection(url.netloc, timeout=60)
        body = json.dumps({"max_tokens": 4096, "n": 8, "stream": True})
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        stream = connection.getresponse()
        assert stream.readline().startswith(b"data: {")
        process.send_signal(signal.SIGINT)
        last = [line for line in stream.read().split(b"\n\n") if line][-1]
        assert json.loads(last.removeprefix(b"data: "))["error"]["message"] == "the server is stopping"
        connection.close()
        assert process.wait(timeout=30) == 0
        assert process.stderr.read() == ""


def error_of(*arguments):
    """Run the command, which must fail, and return what it prints to stderr."""
    result = run_slm("serve", *arguments)
    assert (result.returncode, result.stdout) == (1, "")
    return result.stderr


def test_port_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        line = f"error: --host 127.0.0.1 --port {port}: Address already in use\n"
        assert error_of("--port", port) == line


@pytest.mark.parametrize("arguments, line", [
    (["--port", "65536"], "--port: must be 1 to 65535, or 0 for any free port, got 65536"),
    (["--port", "-1"], "--port: must be 1 to 65535, or 0 for any free port, got -1"),
    (["--host", "no.such.host.invalid"], "--host: 'no.such.host.invalid': "),
    (["--host", "a" * 70], f"--host: '{'a' * 70}': "),
    (["--host", "192.0.2.1"], "--host 192.0.2.1 --port 8000: Cannot assign requested address"),
    (["--port", "0", "--model", "nothing"], "nothing/tokenizer.json: no such file; `dvc repro` makes it"),
])  # fmt: skip
def test_wrong_argument_is_one_line(arguments, line):
    error = error_of(*arguments)
    assert error.startswith(f"error: {line}")
    assert error.count("\n") == 1


def test_no_stage_depends_on_the_server(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert "slm/serve/engine.py" in imported_files(Path("slm/cli/serve.py"))
    for stage in Path("stages").glob("*.py"):
        assert not {file for file in imported_files(stage) if "serv" in file}
