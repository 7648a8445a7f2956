"""A local server that serves datasets in folders by the protocol of the Hugging Face Hub.

A dataset is a folder `ROOT/OWNER/NAME/REVISION` with its files. Point the client at it with HF_ENDPOINT.
"""

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

from ruamel.yaml import YAML

API = re.compile(
    r"/api/datasets/(?P<name>[^/]+/[^/]+)(/(?P<verb>revision|tree)/(?P<revision>[^/]+)(/(?P<path>.+))?)?"
)
FILE = re.compile(r"/datasets/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


class Hub(ThreadingHTTPServer):
    """A server that records its requests and can fail on demand."""

    daemon_threads = True

    def __init__(self, root: Path):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        # Each entry is "GET /path".
        self.requests: list[str] = []
        # Bytes of file contents until the connection breaks.
        self.bytes_left = math.inf
        # Whether the server continues after the connection has broken.
        self.comes_back = False
        self.is_gone = False
        # The status of the API's responses; 403 simulates a gated dataset.
        self.status = 200

    @property
    def endpoint(self) -> str:
        """Return the address of the server."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Ignore clients that disconnect."""

    def served(self) -> set[str]:
        """Return the paths of the files whose contents were requested."""
        matches = (
            FILE.fullmatch(line.removeprefix("GET ")) for line in self.requests if line.startswith("GET")
        )
        return {match["path"] for match in matches if match}


@contextmanager
def serve(root: Path) -> Iterator[Hub]:
    """Serve the datasets below a folder until the block ends."""
    with Hub(root) as hub:
        Thread(target=hub.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            hub.shutdown()


def commit_of(name: str, revision: str) -> str:
    """Return the commit of a revision of a dataset: 40 hexadecimal digits."""
    return (
        revision
        if re.fullmatch("[0-9a-f]{40}", revision)
        else sha1(f"{name}@{revision}".encode()).hexdigest()
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        if self.server.is_gone:
            self.close_connection = True
            return
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        if match := API.fullmatch(path):
            self._api(**match.groupdict())
        elif match := FILE.fullmatch(path):
            self._file(**match.groupdict())
        else:
            self._send_error_code("EntryNotFound")

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Keep the tests' output quiet."""

    def _api(self, name: str, verb: str | None, revision: str | None, path: str | None) -> None:
        if self.server.status != 200:
            self._send_error_code({403: "GatedRepo"}.get(self.server.status, ""), self.server.status)
            return
        if (folder := self._folder(name, revision or "main")) is None:
            return
        if verb != "tree":
            siblings = [{"rfilename": p.relative_to(folder).as_posix()} for p in sorted(folder.rglob("*"))]
            sha, card = commit_of(name, folder.name), _card(folder)
            self._json({"id": name, "sha": sha, "siblings": siblings, "cardData": card})
        elif (folder / (path or "")).is_dir():
            self._json([_entry(p, folder) for p in sorted((folder / (path or "")).iterdir())])
        else:
            self._send_error_code("EntryNotFound")

    def _file(self, name: str, revision: str, path: str) -> None:
        if (folder := self._folder(name, revision)) is None:
            return
        file = folder / path
        if not file.is_file():
            self._send_error_code("EntryNotFound")
            return
        size = file.stat().st_size
        first, last = 0, size - 1
        if byte_range := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(byte_range[1]), min(int(byte_range[2] or last), last)
        self.send_response(206 if byte_range else 200)
        if byte_range:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("X-Repo-Commit", commit_of(name, folder.name))
        self.send_header("ETag", f'"{sha1(str(file).encode()).hexdigest()}"')
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        if self.command == "GET":
            self._send_bytes(file, first, last + 1 - first)

    def _send_bytes(self, file: Path, first: int, n_bytes: int) -> None:
        with file.open("rb") as source:
            source.seek(first)
            while n_bytes and (chunk := source.read(min(n_bytes, 1 << 16))):
                self.server.bytes_left -= len(chunk)
                if self.server.bytes_left < 0:
                    self.server.bytes_left, self.server.is_gone = math.inf, not self.server.comes_back
                    self.close_connection = True
                    return
                self.wfile.write(chunk)
                n_bytes -= len(chunk)

    def _folder(self, name: str, revision: str) -> Path | None:
        """Return the folder of a revision, a branch or a commit; send an error if there is none."""
        repo = self.server.root / name
        for folder in repo.glob("*"):
            if revision in (folder.name, commit_of(name, folder.name)):
                return folder
        self._send_error_code("RevisionNotFound" if repo.is_dir() else "RepoNotFound")
        return None

    def _json(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _send_error_code(self, code: str, status: int = 404) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _card(folder: Path) -> dict[str, Any]:
    """Return the YAML metadata at the start of a dataset's README.md."""
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    return YAML(typ="safe").load(text.split("---\n")[1]) if text.startswith("---\n") else {}


def _entry(path: Path, folder: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    kind, size = ("directory", 0) if path.is_dir() else ("file", path.stat().st_size)
    return {"type": kind, "path": name, "oid": sha1(name.encode()).hexdigest(), "size": size}
