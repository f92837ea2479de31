#!/usr/bin/env python3
"""hub_server.py - a hub that also misbehaves, for test_hub.sh. Standard library alone.

    hub_server.py serve ROOT LOG PORTS [CERTIFICATE KEY]
                                          serves ROOT/<name>/<files>; writes two ports to PORTS:
                                          the hub's, and that of the host that it redirects to.
                                          With a certificate, the hub alone speaks TLS
    hub_server.py split FOLDER            makes shards and an index of model.safetensors

A repository is <behaviour>/<name>: good/tiny is served as a hub does, cut/tiny breaks off, ...
Each request is a line of LOG: hub or cdn, method, path, Range, whether a token came along.
"""
import hashlib
import http.server
import json
import os
import ssl
import sys
import threading
import time
import urllib.parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISIONS = ("main", "v1.0", "refs/pr/1", COMMIT)
LARGE = (".safetensors", ".gguf")
counts = {}
lock = threading.Lock()


def count(key):
    """How often this was asked before."""
    with lock:
        counts[key] = counts.get(key, 0) + 1
        return counts[key] - 1


def etag(path, data):
    if path.endswith(LARGE):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def note(self):
        token = self.headers.get("Authorization", "-").replace(" ", "_")
        with lock, open(self.server.log, "a") as f:
            print(self.server.role, self.command, self.path, self.headers.get("Range", "-"),
                  token, file=f)

    def head(self, status, length=0, **headers):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()

    def answer(self, status, body=b"", **headers):
        self.head(status, len(body), **headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status, code=None):
        more = {"X_Error_Code": code} if code else {}
        self.answer(status, b"<html>no</html>", **more)

    def do_HEAD(self):
        self.handle_one()

    def do_GET(self):
        self.handle_one()

    def handle_one(self):
        self.note()
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self.api(parts[2], parts[3], "/".join(parts[5:]) or "main")
        elif len(parts) > 4 and parts[2] == "resolve":
            self.resolve(parts[0], parts[1], parts[3], "/".join(parts[4:]))
        elif (self.server.role == "cdn" or parts[0] == "own") and len(parts) == 3:
            self.body(*parts)
        else:
            self.error(404)

    # what an answer about the repository may be

    def api(self, mode, name, revision):
        if hasattr(self, "api_" + mode) and getattr(self, "api_" + mode)():
            return
        folder = os.path.join(self.server.root, name)
        if not os.path.isdir(folder):
            return self.error(404, "RepoNotFound")
        if revision not in REVISIONS:
            return self.error(404, "RevisionNotFound")
        names = sorted(os.listdir(folder))
        if mode == "names":
            names += ["../evil", "/etc/passwd", "a/b.gguf", "x\n.gguf", "..", ".hidden.gguf"]
        self.answer(200, json.dumps({"id": mode + "/" + name, "sha": COMMIT, "siblings":
                                     [{"rfilename": n} for n in names]}).encode())

    def api_unauthorized(self):
        if self.headers.get("Authorization") == "Bearer hf_right":
            return False
        return not self.error(401, "RepoNotFound")

    def api_trouble(self):
        return not self.error(500)

    def api_busy(self):
        return count("busy") < 2 and not self.error(503)

    def api_patience(self):
        return not self.answer(429, Retry_After="3600")

    def api_html(self):
        return not self.answer(200, b"<!doctype html><title>Log in</title>")

    def api_list(self):
        return not self.answer(200, b"[" * 100000)

    def api_sha(self):
        return not self.answer(200, b'{"sha": "../../../evil", "siblings": []}')

    def api_loop(self):
        return not self.answer(302, Location=self.path)

    def api_scheme(self):
        return not self.answer(302, Location="file:///etc/passwd")

    def api_nowhere(self):
        return not self.answer(302)

    def api_endless(self):
        self.head(200, None)
        for _ in range(40):
            self.wfile.write(b" " * (1 << 20))
        self.close_connection = True
        return True

    def api_hang(self):
        time.sleep(6)
        self.close_connection = True
        return True

    # the head of a file

    def resolve(self, mode, name, revision, file):
        path = os.path.join(self.server.root, name, file)
        if revision not in REVISIONS:
            return self.error(404, "RevisionNotFound")
        if not os.path.isfile(path):
            return self.error(404, "EntryNotFound")
        if mode == "gated":
            return self.error(403, "GatedRepo")
        if mode == "gone" and file == "tokenizer_config.json":
            return self.error(404, "EntryNotFound")
        with open(path, "rb") as f:
            data = f.read()
        tag, size = etag(file, data), len(data)
        if file.endswith(LARGE):
            return self.linked(mode, name, file, tag, size)
        commit = COMMIT[::-1] if mode == "commit" else COMMIT
        if mode == "untagged":
            return self.answer(200, data, X_Repo_Commit=commit)
        if mode == "relative" and "again" not in self.path:
            return self.answer(307, Location=self.path + "?again", X_Repo_Commit=commit)
        self.answer(200, data, ETag='W/"%s"' % tag, X_Repo_Commit=commit)

    def linked(self, mode, name, file, tag, size):
        if mode == "huge":
            size = 1 << 59
        if mode == "absurd":
            size = "9" * 40
        if mode == "tags":
            tag = "../../../../evil"
        where = "/%s/%s/%s" % (mode, name, file)
        if mode != "own":       # that host has all itself
            where = "http://127.0.0.1:%d%s" % (self.server.cdn, where)
        self.answer(302, b"Found", Location=where, ETag='"of the redirect"',
                    X_Linked_ETag='"%s"' % tag, X_Linked_Size=str(size), X_Repo_Commit=COMMIT)

    # the contents of a large file

    def body(self, mode, name, file):
        with open(os.path.join(self.server.root, name, file), "rb") as f:
            data = f.read()
        size, first = len(data), 0
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes=") and mode != "norange":
            first = int(asked[6:].split("-")[0])
            if mode == "elsewhere":
                first = 1
            if first >= size:
                return self.answer(416, Content_Range="bytes */%d" % size)
        if hasattr(self, "body_" + mode):
            data = getattr(self, "body_" + mode)(data)
            if data is None:
                return None
        if first:
            self.head(206, len(data) - first,
                      Content_Range="bytes %d-%d/%d" % (first, len(data) - 1, len(data)))
        else:
            self.head(200, len(data))
        return self.send(mode, data[first:], first)

    def body_short(self, data):
        return data[:-100]

    def body_long(self, data):
        return data + b"x" * 100

    def body_corrupt(self, data):
        return data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]

    def body_expired(self, data):
        return data if count("expired") else self.error(403)

    def body_unstable(self, data):
        return data if count("unstable") >= 2 else self.error(502)

    def body_unlimited(self, data):
        """More than was announced, without a length."""
        self.head(200, None, Connection="close")
        self.wfile.write(data + b"x" * 100)
        self.close_connection = True

    def body_close(self, data):
        """Half of it, without a length, the first time."""
        if count("close"):
            return data
        self.head(200, None, Connection="close")
        self.wfile.write(data[:len(data) // 2])
        self.close_connection = True
        return None

    def send(self, mode, data, first):
        cut = len(data)
        if mode in ("cut", "elsewhere") and not first or mode == "norange" and not count(mode):
            cut = len(data) // 3
        if mode == "drip":      # always breaks off early
            cut = 10
        self.wfile.write(data[:min(cut, 65536)])
        if mode == "trickle" and not count(mode):
            for i in range(40):
                time.sleep(0.1)
                self.wfile.write(data[65536 + i:65537 + i])
                self.wfile.flush()
        elif mode == "slow" and not first:
            time.sleep(20)
        else:
            self.wfile.write(data[65536:cut])
        if cut < len(data):
            self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass        # a client that leaves


def serve(root, log, ports, certificate=None, key=None):
    hub, cdn = (Server(("127.0.0.1", 0), Handler) for _ in range(2))
    if certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        hub.socket = tls.wrap_socket(hub.socket, server_side=True)
    for server, role in ((hub, "hub"), (cdn, "cdn")):
        server.root, server.log, server.role = root, log, role
        server.cdn = cdn.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
    with open(ports + ".tmp", "w") as f:
        print(hub.server_address[1], cdn.server_address[1], file=f)
    os.rename(ports + ".tmp", ports)
    while os.path.exists(root):     # it ends with the test's folder
        time.sleep(0.5)


def split(folder):
    path = os.path.join(folder, "model.safetensors")
    with open(path, "rb") as f:
        data = f.read()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    names, weight_map = sorted(header), {}
    for i in range(2):
        file, shard, at = "model-%05d-of-00002.safetensors" % (i + 1), {}, 0
        body = b""
        for name in names[i::2]:
            begin, end = header[name]["data_offsets"]
            body += data[8 + length + begin:8 + length + end]
            shard[name] = dict(header[name], data_offsets=[at, at + end - begin])
            at += end - begin
            weight_map[name] = file
        text = json.dumps(shard).encode()
        text += b" " * (-len(text) % 8)
        with open(os.path.join(folder, file), "wb") as f:
            f.write(len(text).to_bytes(8, "little") + text + body)
    with open(path + ".index.json", "w") as f:
        json.dump({"metadata": {}, "weight_map": weight_map}, f)
    os.remove(path)


if __name__ == "__main__":
    {"serve": serve, "split": split}[sys.argv[1]](*sys.argv[2:])
