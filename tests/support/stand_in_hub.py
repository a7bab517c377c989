"""A stand-in for the Hub: two small HTTP servers that take what `push` sends and give it to `pull`, and fail on demand.

As the Hub itself it answers a request for a large file by a redirect to another host, where the file is known by its
sha256 alone, in whole or in ranges, and where the user's token must not be sent.
"""

import base64
import hashlib
import json
import re
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

TOKEN = "hf_test"
MODEL = ".model"  # ends the names of models in `repos`
LARGE = (".h5", ".pt")
RESOLVE = re.compile(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class StandInHub:
    """Repositories by name and branch: files by path. A context manager; `url` is its address while it runs.

    `log` lists (method, path) of all requests. `fail_after` uploads of big files, all further ones are answered 500.
    `served` counts the bytes that were sent of each file. Faults of downloads: `busy` is the number of requests to
    answer by `busy_status`, `cut` that of large files to break off in the middle. Of each path `wrong` counts copies with
    a wrong byte, `short` those with half of the bytes, and `failing` answers of 503. `gone` has paths that are listed but
    lost. Each large file takes `seconds`.

    With `xet`, a folder, large files are in the hub's other storage: hf_xet reads and writes them in that folder.
    """

    def __init__(self, xet: Path | None = None) -> None:
        self.xet = xet
        self.xet_hashes: dict[str, str] = {}
        self.snapshots: dict[str, dict[str, bytes]] = {}
        self.served: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.busy, self.busy_status, self.cut, self.seconds = 0, 429, 0, 0.0
        self.wrong, self.short, self.failing = Counter[str](), Counter[str](), Counter[str]()
        self.gone: set[str] = set()
        self.lock = threading.Lock()
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
                path = _as_of_data_sets(unquote(self.path.partition("?")[0]))
                hub.log.append((self.command, path))
                if (found := RESOLVE.fullmatch(path)) is not None:
                    return self._download(*found.groups())
                allowed = path.startswith("/big/") or self.headers.get("Authorization") == f"Bearer {TOKEN}"
                status, answer = hub.answer(self.command, path, body) if allowed else (401, {"error": "who are you?"})
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                if "casUrl" in answer:  # hf_xet reads the answer, huggingface_hub its head
                    self.send_header("X-Xet-Cas-Url", answer["casUrl"])
                    self.send_header("X-Xet-Access-Token", answer["accessToken"])
                    self.send_header("X-Xet-Token-Expiration", str(answer["exp"]))
                if status == 404:
                    self.send_header("X-Error-Code", "EntryNotFound")
                self.end_headers()
                self.wfile.write(content)

            def _answer(self, status: int, headers: dict[str, str], content: bytes = b"") -> None:
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(content))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def _download(self, repo: str, revision: str, name: str) -> None:
                if hub.is_busy():
                    return self._answer(hub.busy_status, {"Retry-After": "0"})
                token = self.headers.get("Authorization")
                if repo not in hub.repos or (hub.private.get(repo) and token != f"Bearer {TOKEN}"):
                    return self._answer(401, {"X-Error-Code": "RepoNotFound"})
                commit, files = hub.commit_of(repo, revision)
                if files is None:
                    return self._answer(404, {"X-Error-Code": "RevisionNotFound"})
                if name not in files or name in hub.gone:
                    return self._answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
                digest = hashlib.sha256(files[name]).hexdigest()
                headers = {"X-Repo-Commit": commit, "ETag": f'"{digest[:40]}"'}
                if not name.endswith(LARGE):
                    if self.command == "GET":
                        hub.served[name] += len(files[name])
                    return self._answer(200, headers, files[name])
                headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(files[name]))}
                headers["Location"] = f"{hub.cdn_url}/{repo}/{commit}/{name}?signature=x"
                if hub.xet is not None:
                    headers |= {"X-Xet-Hash": hub.xet_hashes[digest]}
                    headers |= {"X-Xet-Refresh-Route": f"{hub.url}/api/datasets/{repo}/xet-read-token/{commit}"}
                self._answer(302, headers)

            def _chunks(self) -> Any:
                while size := int(self.rfile.readline(), 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()

            do_GET = do_POST = do_PUT = do_HEAD = _any

        class OtherHost(Handler):
            def _any(self) -> None:
                _, _, commit, path = unquote(self.path.partition("?")[0]).lstrip("/").split("/", 3)
                if self.headers.get("Authorization"):
                    return self._answer(400, {}, b"a token of another host")
                if hub.is_busy():
                    return self._answer(hub.busy_status, {"Retry-After": "0"})
                if hub.is_next(hub.failing, path):
                    return self._answer(503, {})
                time.sleep(hub.seconds)
                content = hub.snapshots[commit][path]
                if hub.is_next(hub.wrong, path):
                    content = content[:-1] + bytes([content[-1] ^ 1])
                if hub.is_next(hub.short, path):
                    content = content[: len(content) // 2]
                first = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
                headers = {"Accept-Ranges": "bytes", "Content-Length": str(len(content) - first)}
                if first:
                    hub.ranges.append(path)
                    headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
                part = content[first : first + (len(content) - first) // 2] if hub.is_cut() else content[first:]
                self._answer(206 if first else 200, headers, part)
                hub.served[path] += len(part)
                self.close_connection = first + len(part) < len(content)

            do_GET = _any

        class Server(ThreadingHTTPServer):
            def handle_error(self, *where: Any) -> None:
                if not isinstance(sys.exception(), ConnectionError):  # of a client that was killed
                    super().handle_error(*where)

        self.servers = [Server(("127.0.0.1", 0), each) for each in (Handler, OtherHost)]
        self.url, self.cdn_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in self.servers)
        for server in self.servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def commit_of(self, repo: str, revision: str) -> tuple[str, dict[str, bytes] | None]:
        """The commit that a branch or a commit stands for, and its files; commits are named by their content."""
        if revision in self.repos[repo]:
            files = self.repos[repo][revision]
            names = json.dumps(sorted((name, hashlib.sha256(content).hexdigest()) for name, content in files.items()))
            revision = hashlib.sha1(names.encode()).hexdigest()
            self.snapshots.setdefault(revision, dict(files))
        return revision, self.snapshots.get(revision)

    def is_next(self, fault: Counter[str], path: str) -> bool:
        with self.lock:
            fault[path] -= 1
            return fault[path] >= 0

    def expect_xet(self, root: Path) -> None:
        """Learn the names that shards have in the other storage, which uploads do not pass through this server."""
        from hf_xet import hash_files

        paths = sorted(root.rglob("*.h5"))
        for path, info in zip(paths, hash_files([str(path) for path in paths]), strict=True):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            self.big[digest], self.xet_hashes[digest] = path.read_bytes(), info.hash

    def is_busy(self) -> bool:
        with self.lock:
            self.busy -= 1
            return self.busy >= 0

    def is_cut(self) -> bool:
        with self.lock:
            self.cut -= 1
            return self.cut >= 0

    def shard_bytes(self) -> int:
        """How many bytes of shards were sent."""
        return sum(count for name, count in self.served.items() if name.endswith(".h5"))

    def files(self, repo: str, branch: str = "main") -> dict[str, bytes]:
        return self.repos[repo][branch]

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON of the answer to a request."""
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" + ("" if asked.get("type") == "dataset" else MODEL)
            there = name in self.repos
            self.repos.setdefault(name, {"main": {}})
            self.private.setdefault(name, asked.get("visibility"))
            start = "" if name.endswith(MODEL) else "datasets/"
            return (409 if there else 200), {"url": f"{self.url}/{start}{name.removesuffix(MODEL)}", "name": name}
        if path == "/api/validate-yaml":
            asked = json.loads(body)
            assert asked["repoType"] in ("dataset", "model")
            return 200, {"errors": [], "warnings": []}
        if path.startswith("/big/") and method == "PUT":
            return self._take(path.removeprefix("/big/"), body)
        if re.fullmatch(r"/api/datasets/[^/]+/[^/]+/xet-(read|write)-token/[^/]+", path):
            return 200, {"casUrl": f"local://{self.xet}", "accessToken": "x", "exp": int(time.time()) + 3600}
        found = re.fullmatch(r"/datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path)
        if found:
            return 200, {"transfer": "basic", "objects": [self._batch(each) for each in json.loads(body)["objects"]]}
        found = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/(revision|paths-info)/([^/]+))?", path)
        if found and found[1] in self.repos:
            commit, files = self.commit_of(found[1], found[3] or "main")
            if files is not None and found[2] != "paths-info":
                return 200, {"id": found[1], "sha": commit}
            paths = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
            return 200, [_entry(name, files[name]) for name in paths if name in (files or {})]
        found = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/(preupload|commit|tree|branch)/([^/]+)(?:/(.*))?", path)
        if not found or found[1] not in self.repos:
            return 404, {"error": f"no {path}"}
        repo, verb, branch, folder = found.groups()
        if verb == "branch":
            there = branch in self.repos[repo]
            self.repos[repo].setdefault(branch, dict(self.repos[repo]["main"]))
            return (409 if there else 200), {}
        if verb == "preupload":
            modes = [
                (each["path"], "lfs" if each["path"].endswith(LARGE) else "regular")
                for each in json.loads(body)["files"]
            ]
            return 200, {"files": [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes]}
        if verb == "tree":
            start, files = f"{folder}/" if folder else "", self.commit_of(repo, branch)[1] or {}
            inside = [name for name in files if name.startswith(start) and "/" not in name.removeprefix(start)]
            entries = [_entry(name, files[name]) for name in inside]
            return (200, entries) if entries else (404, {"error": "no entry"})
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


def _as_of_data_sets(path: str) -> str:
    """The path of a request about a model OWNER/NAME as that of one about a data set OWNER/NAME.model."""
    path = re.sub(r"^/api/models/([^/]+/[^/]+)", rf"/api/datasets/\1{MODEL}", path)
    return re.sub(r"^/(?!datasets/|api/|big/)([^/]+/[^/]+?)(\.git|/resolve)/", rf"/datasets/\1{MODEL}\2/", path)


def _entry(name: str, content: bytes) -> dict[str, Any]:
    lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return {"type": "file", "path": name, "size": len(content), "oid": "0" * 40, "lfs": lfs}


@contextmanager
def used_hub(monkeypatch):
    """A stand-in that huggingface_hub talks to in this process."""
    constants = import_module("huggingface_hub.constants")
    with StandInHub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def hub_environment(hub, home):
    """What lets huggingface_hub of another process talk to a stand-in."""
    return {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home)}
