"""A Hugging Face hub on 127.0.0.1, with what a push needs of its HTTP API, that fails when told.

    with FakeHub() as hub:
        hub.fail_at = {3: "500"}      # the third request from now
        ...hub.url...

How a request fails: "500" refuses it unread; "after" does what it asks and closes the connection
without an answer; "cut" closes it before its body is read. Files whose names end in LARGE are kept
by digest, as git-lfs does; the others by git.
"""

import base64
from collections import Counter, defaultdict
import contextlib
import hashlib
import http.server
import json
import re
import threading
import time
import types
from urllib.parse import unquote, urlsplit

TOKEN = "hf_thisIsASecretOfTheTest"
PART = 4000  # bytes; what is larger is sent in parts
LARGE = (".safetensors", ".array_record", ".model", ".npy")


def blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Repository:
    """Branches of files; a file is its bytes, or the digest of a large one."""

    def __init__(self, private: bool):
        self.private = private
        self.branches = {"main": {".gitattributes": b"*.safetensors filter=lfs\n"}}
        self.commits = {"main": "0" * 40}

    def record(self, branch: str) -> None:
        self.commits[branch] = hashlib.sha1(f"{self.commits[branch]}+".encode()).hexdigest()


class FakeHub:
    """A server; `requests` lists what was asked, `stored` counts how often a digest was sent.

    Attributes:
      fail_at: number of a request since `begin` -> how it fails.
      damaged: digests whose content it loses, as a broken hub might.
    """

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.stored, self.committed = Counter(), Counter()
        self.requests: list[str] = []
        self.fail_at: dict[int, str] = {}
        self.damaged: set[str] = set()
        self.owners = {"org"}
        self.parts: dict[str, dict[int, bytes]] = defaultdict(dict)
        self.hang = threading.Event()
        self._lock = threading.RLock()

    def files(self, name: str, branch: str = "main") -> dict[str, bytes]:
        """The content of a branch, large files included."""
        return {
            path: self.objects[data] if isinstance(data, str) else data
            for path, data in self.repositories[name].branches[branch].items()
        }

    def __enter__(self):
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize, disable_nagle_algorithm = 1 << 16, True  # else each answer takes 40 ms

            def log_message(self, *_):
                pass

            def answer(self):
                with hub._lock:
                    hub.requests.append(f"{self.command} {self.path}")
                    how = hub.fail_at.pop(len(hub.requests), "")
                if how == "cut":
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if how == "500":
                    status, headers, data = 500, {}, b"<html>Internal error</html>"
                else:
                    with hub._lock:
                        status, headers, data = hub.serve(self, body)
                if how == "after":
                    self.close_connection = True
                    return
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_HEAD = answer

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    # ------------------------------------------------------------------------ requests
    def serve(self, request, body):
        path = unquote(urlsplit(request.path).path)
        if request.command == "PUT":
            return self.put(path, body)
        if match := re.fullmatch(r"/store/(\w+)/all", path):
            parts = self.parts.pop(match[1], {})
            return self.put(f"/store/{match[1]}", b"".join(parts[i] for i in sorted(parts)))
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            said = request.headers.get("Authorization", "")
            return error(401, f"Invalid credentials {said}")
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return okay({"errors": [], "warnings": []})
        for pattern, serve in (
            (r"/api/(models|datasets)/([\w.-]+/[\w.-]+)/(refs|tree|preupload|commit|branch)(?:/(.+))?",
             self.of_repository),
            (r"/api/(models|datasets)/([\w.-]+/[\w.-]+)()()", self.info),
            (r"/(datasets/)?([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch()()", self.batch),
            (r"/(datasets/)?([\w.-]+/[\w.-]+)/(resolve)/(.+)", self.resolve),
        ):  # fmt: skip
            if match := re.fullmatch(pattern, path):
                kind, name, what, rest = match.groups()
                key = f"datasets/{name}" if kind in ("datasets", "datasets/") else name
                if key not in self.repositories:
                    return error(404, "Repository not found", "RepoNotFound")
                return serve(self.repositories[key], what, rest, body)
        return error(404, f"no such address {path}")

    def create(self, asked):
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] not in self.owners:
            return error(403, "You don't have the rights to create a model under this namespace")
        key = f"datasets/{name}" if asked.get("type") == "dataset" else name
        if key in self.repositories:
            return error(409, "You already created this model repo")
        self.repositories[key] = Repository(asked.get("visibility") == "private")
        return okay({"url": f"{self.url}/{key}"})

    def info(self, repository, *_):
        sha = repository.commits["main"]
        return okay({"id": "x", "private": repository.private, "sha": sha, "siblings": []})

    def of_repository(self, repository, what, rest, body):
        if what == "refs":
            refs = [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit}
                for name, commit in repository.commits.items()
            ]
            return okay({"branches": refs, "converts": [], "tags": []})
        if what == "branch":
            repository.branches[rest] = dict(repository.branches["main"])
            repository.commits[rest] = repository.commits["main"]
            return okay({})
        branch = self.branch(repository, rest)
        if branch is None:
            return error(404, "Revision not found", "RevisionNotFound")
        if what == "tree":
            return okay([self.entry(*item) for item in repository.branches[branch].items()])
        if what == "preupload":
            return okay({"files": [
                {"path": file["path"], "shouldIgnore": False,
                 "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                 "oid": self.identity(repository.branches[branch].get(file["path"]))}
                for file in json.loads(body)["files"]
            ]})  # fmt: skip
        return self.commit(repository, branch, body)

    def branch(self, repository, revision):
        for name, commit in repository.commits.items():
            if revision in (name, commit):
                return name
        return None

    def identity(self, data):
        return None if data is None else data if isinstance(data, str) else blob(data)

    def entry(self, path, data):
        if isinstance(data, bytes):
            return {"type": "file", "path": path, "size": len(data), "oid": blob(data)}
        size = len(self.objects[data])
        digest = "f" * 64 if data in self.damaged else data
        lfs = {"oid": digest, "size": size, "pointerSize": 130}
        return {"type": "file", "path": path, "size": size, "oid": "e" * 40, "lfs": lfs}

    def batch(self, repository, _, __, body):
        objects = []
        for asked in json.loads(body)["objects"]:
            answer = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.objects:
                answer["actions"] = {"upload": self.upload(asked["oid"], asked["size"])}
            objects.append(answer)
        return okay({"transfer": "basic", "objects": objects})

    def upload(self, digest, size):
        """Where a file is to be put: in one piece, or a large one in parts of PART bytes."""
        href = f"{self.url}/store/{digest}"
        if size <= PART:
            return {"href": f"{href}?X-Signature=signedByTheStore"}
        parts = {
            f"{number + 1:05}": f"{href}/{number}?uploadId=1&X-Signature=signedByTheStore"
            for number in range(-(-size // PART))
        }
        return {"href": f"{href}/all", "header": {"chunk_size": str(PART), **parts}}

    def put(self, path, body):
        if match := re.fullmatch(r"/store/(\w+)/(\d+)", path):
            self.parts[match[1]][int(match[2])] = body
            return 200, {"ETag": f'"{blob(body)}"'}, b""
        digest = path.rpartition("/")[2]
        if hashlib.sha256(body).hexdigest() != digest:
            return error(400, "BadDigest")
        self.objects[digest] = body
        self.stored[digest] += 1
        return okay({})

    def commit(self, repository, branch, body):
        lines = [json.loads(line) for line in body.splitlines()]
        parent = lines[0]["value"].get("parentCommit")
        if parent not in (None, repository.commits[branch]):
            return error(412, "A commit has happened since")
        files = dict(repository.branches[branch])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.objects:
                    return error(400, f"no such object {value['oid']}")
                files[value["path"]] = value["oid"]
            else:
                del files[value["path"]]
            self.committed[value["path"]] += 1
        repository.branches[branch] = files
        repository.record(branch)
        oid = repository.commits[branch]
        return okay({"commitUrl": f"{self.url}/org/name/commit/{oid}", "commitOid": oid})

    def resolve(self, repository, _, rest, __):
        revision, _, name = rest.partition("/")
        branch = self.branch(repository, revision)
        data = repository.branches[branch].get(name) if branch else None
        if data is None:
            return error(404, "Entry not found", "EntryNotFound")
        data = self.objects[data] if isinstance(data, str) else data
        headers = {"ETag": f'"{blob(data)}"', "X-Repo-Commit": repository.commits[branch]}
        return 200, headers, data


def okay(value):
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


def error(status, message, code=""):
    headers = {"Content-Type": "application/json", "X-Error-Message": message}
    if code:
        headers["X-Error-Code"] = code
    return status, headers, json.dumps({"error": message}).encode()


@contextlib.contextmanager
def serving(monkeypatch, tmp_path):
    """A hub that this process's client speaks with, as somebody who is logged in."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    with FakeHub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        page = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", page)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        clock = types.SimpleNamespace(**vars(time) | {"sleep": lambda seconds: None})
        monkeypatch.setattr(_http, "time", clock)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub
