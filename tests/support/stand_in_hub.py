"""A stand-in for the Hub: a small HTTP server that takes what `push` sends, keeps the files, and can be told to fail."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_test"


class StandInHub:
    """Repositories by name and branch: files by path. A context manager; `url` is its address while it runs.

    `log` lists (method, path) of all requests. `fail_after` uploads of big files, all further ones are answered 500.
    """

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: dict[str, Any] = {}
        self.big: dict[str, bytes] = {}
        self.log: list[tuple[str, str]] = []
        self.commits: list[list[str]] = []
        self.fail_after: int | None = None
        self.puts = 0

    def __enter__(self) -> "StandInHub":
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _any(self) -> None:
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = b"".join(self._chunks())
                else:
                    body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = unquote(self.path.partition("?")[0])
                hub.log.append((self.command, path))
                allowed = path.startswith("/big/") or self.headers.get("Authorization") == f"Bearer {TOKEN}"
                status, answer = hub.answer(self.command, path, body) if allowed else (401, {"error": "who are you?"})
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                if status == 404:
                    self.send_header("X-Error-Code", "EntryNotFound")
                self.end_headers()
                self.wfile.write(content)

            def _chunks(self) -> Any:
                while size := int(self.rfile.readline(), 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()

            do_GET = do_POST = do_PUT = _any

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def files(self, repo: str, branch: str = "main") -> dict[str, bytes]:
        return self.repos[repo][branch]

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON of the answer to a request."""
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            there = name in self.repos
            self.repos.setdefault(name, {"main": {}})
            self.private.setdefault(name, asked.get("visibility"))
            return (409 if there else 200), {"url": f"{self.url}/datasets/{name}", "name": name}
        if path == "/api/validate-yaml":
            asked = json.loads(body)
            assert asked["repoType"] == "dataset"
            return 200, {"errors": [], "warnings": []}
        if path.startswith("/big/") and method == "PUT":
            return self._take(path.removeprefix("/big/"), body)
        found = re.fullmatch(r"/datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path)
        if found:
            return 200, {"transfer": "basic", "objects": [self._batch(each) for each in json.loads(body)["objects"]]}
        found = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/(preupload|commit|tree|branch)/([^/]+)(?:/(.*))?", path)
        if not found or found[1] not in self.repos:
            return 404, {"error": f"no {path}"}
        repo, verb, branch, folder = found.groups()
        if verb == "branch":
            there = branch in self.repos[repo]
            self.repos[repo].setdefault(branch, dict(self.repos[repo]["main"]))
            return (409 if there else 200), {}
        files = self.repos[repo][branch]
        if verb == "preupload":
            modes = [
                (each["path"], "lfs" if each["path"].endswith(".h5") else "regular")
                for each in json.loads(body)["files"]
            ]
            return 200, {"files": [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes]}
        if verb == "tree":
            inside = {name: content for name, content in files.items() if name.startswith(f"{folder}/")}
            return (
                (200, [_entry(name, content) for name, content in inside.items()])
                if inside
                else (404, {"error": "no entry"})
            )
        return self._commit(repo, branch, body)

    def _take(self, digest: str, body: bytes) -> tuple[int, Any]:
        self.puts += 1
        if self.fail_after is not None and self.puts > self.fail_after:
            return 403, {"error": "the line is cut"}
        assert hashlib.sha256(body).hexdigest() == digest
        self.big[digest] = body
        return 200, {}

    def _batch(self, asked: dict[str, Any]) -> dict[str, Any]:
        actions = (
            {} if asked["oid"] in self.big else {"actions": {"upload": {"href": f"{self.url}/big/{asked['oid']}"}}}
        )
        return {"oid": asked["oid"], "size": asked["size"], **actions}

    def _commit(self, repo: str, branch: str, body: bytes) -> tuple[int, Any]:
        taken = []
        for line in body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                self.repos[repo][branch][value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                self.repos[repo][branch][value["path"]] = self.big[value["oid"]]
            taken += [value["path"]] if "path" in value else []
        self.commits.append(taken)
        return 200, {"commitUrl": f"{self.url}/datasets/{repo}/commit/{'0' * 40}", "commitOid": "0" * 40}


def _entry(name: str, content: bytes) -> dict[str, Any]:
    lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return {"type": "file", "path": name, "size": len(content), "oid": "0" * 40, "lfs": lfs}
