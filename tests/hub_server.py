"""A server of the Hugging Face hub's HTTP API in this process: it creates, takes and gives models."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_of_user"  # may write to user/...


@dataclass
class Repository:
    """A model repository: its commits, each with all files."""

    private: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)

    def add_commit(self, files: dict[str, bytes]) -> str:
        oid = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits.append((oid, files))
        return oid

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit of a revision and its files; `main` is the last commit."""
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)


class HubServer(ThreadingHTTPServer):
    """The repositories by name, and the paths that were requested."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, bytes] = {}  # contents by SHA-256, before they are committed
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def files(self, name: str) -> dict[str, bytes]:
        return self.repositories[name].commits[-1][1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        path = self.path.partition("?")[0].replace("%2F", "/")
        self.server.requests.append(f"{self.command} {path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        for pattern, answer in ROUTES.items():
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                answer(self, *found.groups())
                return
        self.send(404, {"error": f"no route {path}"})

    def send(self, code: int, content: object = None, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def is_user(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def commit_of(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit that was asked for; None if an error was sent in its place."""
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and not self.is_user()):
            self.send(404 if self.is_user() else 401, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return None
        commit = repository.at(revision)
        if commit is None:
            self.send(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        return commit

    def may_write(self, name: str) -> bool:
        if not self.is_user():
            self.send(401, {"error": "Invalid username or password."})
        elif not name.startswith("user/"):
            self.send(403, {"error": "You don't have the rights to create a model under this namespace"})
        return self.is_user() and name.startswith("user/")

    def create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or 'user'}/{asked['name']}"
        if not self.may_write(name):
            return
        if name in self.server.repositories:
            self.send(409, {"error": "You already created this model repo", "url": f"{self.server.url}/{name}"})
            return
        repository = self.server.repositories[name] = Repository(asked.get("visibility") == "private")
        repository.add_commit({".gitattributes": b""})
        self.send(200, {"url": f"{self.server.url}/{name}", "name": name, "id": name})

    def info(self, name: str, revision: str = "main") -> None:
        if commit := self.commit_of(name, revision):
            siblings = [{"rfilename": path} for path in commit[1]]
            private = self.server.repositories[name].private
            self.send(200, {"_id": "1", "id": name, "sha": commit[0], "private": private, "siblings": siblings})

    def tree(self, name: str, revision: str) -> None:
        if commit := self.commit_of(name, revision):
            files = [{"type": "file", "path": path, "size": len(content), "oid": git_hash(content)}
                     for path, content in commit[1].items()]  # fmt: skip
            self.send(200, files)

    def resolve(self, name: str, revision: str, path: str) -> None:
        if commit := self.commit_of(name, revision):
            if path not in commit[1]:
                self.send(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
                return
            content = commit[1][path]
            self.send(200, content, ETag=f'"{git_hash(content)}"', X_Repo_Commit=commit[0])

    def preupload(self, name: str, revision: str) -> None:
        if self.may_write(name) and (commit := self.commit_of(name, revision)):
            answers = []
            for file in json.loads(self.body)["files"]:
                there = commit[1].get(file["path"])
                mode = "lfs" if file["path"].endswith(".safetensors") else "regular"
                oid = None if there is None or mode == "lfs" else git_hash(there)
                answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
            self.send(200, {"files": answers})

    def batch(self, name: str) -> None:
        asked = json.loads(self.body)
        href = f"{self.server.url}/upload/{name}/"
        objects = [{"oid": each["oid"], "size": each["size"], "actions": {"upload": {"href": href + each["oid"]}}}
                   for each in asked["objects"]]  # fmt: skip
        self.send(200, {"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.server.uploads[oid] = self.body
        self.send(200, {})

    def commit(self, name: str, revision: str) -> None:
        if not self.may_write(name) or not (last := self.commit_of(name, revision)):
            return
        files = dict(last[1])
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.uploads[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        oid = self.server.repositories[name].add_commit(files)
        url = f"{self.server.url}/{name}/commit/{oid}"
        self.send(200, {"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def validate(self) -> None:
        assert json.loads(self.body)["content"].startswith("---\n")
        self.send(200, {"errors": [], "warnings": []})


NAME, REVISION = r"([\w.-]+/[\w.-]+)", r"([\w./-]+)"
ROUTES = {
    "POST /api/repos/create": _Handler.create,
    "POST /api/validate-yaml": _Handler.validate,
    f"GET /api/models/{NAME}": _Handler.info,
    f"GET /api/models/{NAME}/revision/{REVISION}": _Handler.info,
    f"GET /api/models/{NAME}/tree/{REVISION}": _Handler.tree,
    rf"(?:GET|HEAD) /{NAME}/resolve/([\w-]+)/(.+)": _Handler.resolve,
    f"POST /api/models/{NAME}/preupload/{REVISION}": _Handler.preupload,
    f"POST /api/models/{NAME}/commit/{REVISION}": _Handler.commit,
    rf"POST /{NAME}\.git/info/lfs/objects/batch": _Handler.batch,
    r"PUT /upload/[\w./-]+/(\w+)": _Handler.upload,
}


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving() -> Iterator[HubServer]:
    """A running server on a free port of this machine."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
