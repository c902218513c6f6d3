"""HTTP messages that are wrong on purpose, drawn from a seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import numpy as np

Random = np.random.RandomState

_PATHS = ("/", "/livez", "/metrics", "/api/overview", "/api/events", "/api/models/activate",
          "/api/cameras/left/trigger", "/static/app.js", "/api/evidence/x/image")  # fmt: skip
_POSTS = ("/api/models/activate", "/api/models/rollback", "/api/cameras/right/trigger")


def _one(random: Random, choices: tuple) -> object:
    return choices[random.randint(len(choices))]


def _noise(random: Random, length: int) -> bytes:
    return random.bytes(random.randint(1, length))


def _get(path: bytes, *lines: bytes) -> bytes:
    return (
        b"GET "
        + path
        + b" HTTP/1.1\r\n"
        + b"".join(line + b"\r\n" for line in (b"Host: localhost", *lines))
        + b"\r\n"
    )


def _post(path: str, body: bytes, *lines: bytes, media: bytes = b"application/json") -> bytes:
    head = (b"Host: localhost", b"Content-Type: " + media, *lines)
    return f"POST {path} HTTP/1.1\r\n".encode() + b"\r\n".join(head) + b"\r\n\r\n" + body


def _sized(path: str, body: bytes, media: bytes = b"application/json") -> bytes:
    return _post(path, body, b"Content-Length: %d" % len(body), media=media)


def noise(random: Random) -> bytes:
    return b"\x00" + _noise(random, 600) + b"\r\n\r\n"


def request_line(random: Random) -> bytes:
    path = str(_one(random, _PATHS)).encode()
    line = _one(random, (
        b"GET " + path, b"GET  " + path + b" HTTP/1.1", b"GET " + path + b" HTTP/9.9",
        b"GET " + path + b" HTTP/1.1 more", b"GET\t" + path + b"\tHTTP/1.1", b" GET / HTTP/1.1",
        b"G\x00T " + path + b" HTTP/1.1", b"GET / a b HTTP/1.1", b"GET " + path + b" HTTP/1",
        b"GET " + path + b" http/1.1", b"GET /\xc3\xa9 HTTP/1.1", b"GET  HTTP/1.1",
        b"PRI * HTTP/2.0", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"(" + path + b") / HTTP/1.1",
    ))  # fmt: skip
    return bytes(line) + b"\r\nHost: localhost\r\n\r\n"


def header(random: Random) -> bytes:
    line = _one(random, (
        b"no colon", b": no name", b"Name : space", b"Na me: x", b"X: a\x00b", b"X: a\x07b",
        b"\xffX: y", b" folded: first", b"X\x7f: y", b"Content-Length: x", b"Content-Length: -1",
        b"Content-Length: 1\r\nContent-Length: 2", b"Content-Length: 1, 2", b"Host: two",
        b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked, chunked",
        b"Content-Length: " + b"9" * 400, b"X@: y", b"(X): y",
    ))  # fmt: skip
    return _get(b"/api/events", bytes(line))


def no_host(random: Random) -> bytes:
    path = str(_one(random, _PATHS)).encode()
    version = bytes(_one(random, (b"1.0", b"1.1")))
    return b"GET " + path + b" HTTP/" + version + b"\r\nX: y\r\n\r\n"


def huge_head(random: Random) -> bytes:
    size = random.randint(66_000, 200_000)
    if random.rand() < 0.5:
        return _get(b"/livez", b"X-Long: " + b"a" * size)
    return _get(b"/" + b"a" * size)


def many_headers(random: Random) -> bytes:
    return _get(
        b"/livez", *(b"X-%d: %s" % (k, b"y" * 20) for k in range(random.randint(4000, 9000)))
    )


def chunks(random: Random) -> bytes:
    body = _one(random, (
        b"xyz\r\n", b"-1\r\nabc\r\n", b"5;\r\nabcdeXX", b"g\r\n", b"ffffffffffffffffffffff\r\n",
        b"2\r\nabcdef\r\n0\r\n\r\n", b"\r\n\r\n", b"0x5\r\nabcde\r\n0\r\n\r\n", b" 5\r\nabcde\r\n",
        b"1\r\n{\r\n0\r\n\r\n", b"3\r\n{]}\r\n0\r\n\r\n", b"0\r\n\r\n",
    ))  # fmt: skip
    return _post("/api/models/activate", bytes(body), b"Transfer-Encoding: chunked")


def long_body(random: Random) -> bytes:
    size = random.randint(70_000, 200_000)
    body = json.dumps({"hash": "a" * size}).encode()
    if random.rand() < 0.5:
        return _sized("/api/models/activate", body)
    return _post("/api/models/activate", b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
                 b"Transfer-Encoding: chunked")  # fmt: skip


def body(random: Random) -> bytes:
    content = _one(random, (
        b"", b"{", b"null", b"[]", b"1", b'"x"', b"\xff\xfe", b"{}x", b'{"hash": null}', b"NaN",
        b'{"hash": ["a"]}', b'{"hash": {"a": 1}}', b"[" * 20_000, b'{"a":' * 5000,
        b'{"hash": 1e999}',
        b'{"hash": "\\ud800"}', b'{"hash": "a", "hash": "b"}', b'{"part": 7, "x": 1}', b"\x00",
        b'{"__proto__": {}}', b"{'hash': 'a'}", _noise(random, 400),
    ))  # fmt: skip
    return _sized("/api/models/activate", bytes(content))


def media(random: Random) -> bytes:
    kind = _one(random, (b"text/plain", b"application/x-www-form-urlencoded", b"",
                         b"multipart/form-data", b"application/jsonx", b"text/json", b"*/*",
                         b"\x80"))  # fmt: skip
    return _sized(str(_one(random, _POSTS)), b"{}", media=bytes(kind))


def path(random: Random) -> bytes:
    target = _one(random, (
        b"/../../../../etc/passwd", b"/static/../server.py", b"/static/%2e%2e/server.py",
        b"/static/..%2f..%2f..%2fetc%2fpasswd", b"/static/%252e%252e%252fserver.py",
        b"/static//etc/passwd", b"/static/..\\server.py", b"/static/app.js%00",
        b"/static/%c0%ae%c0%ae/",
        b"/api/evidence/..%2f..%2f/image", b"/api/evidence/%00/image", b"/api/evidence/a/../image",
        b"/api/cameras/%2e%2e/live.jpg", b"/api/cameras/left%0d%0aX:y/live.jpg", b"//localhost/",
        b"/api/cameras/left/live.jpg/", b"http://evil.example/", b"*", b"localhost:80", b"/%",
        b"/%zz",
        b"/api/cameras/" + b"a" * 5000 + b"/live.jpg", b"/." * 2000, b"/;/livez", b"/api",
    ))  # fmt: skip
    return _get(bytes(target))


def query(random: Random) -> bytes:
    asked = _one(random, (
        b"limit=-1", b"limit=1e9", b"limit=%00", b"limit=1&limit=1", b"after=1.5", b"after=0x1",
        b"camera=..%2f", b"camera=%ff%fe", b"x=" + b"y" * 9000, b"=", b"limit[]=1", b"limit=%2b1",
        b"camera=left;after=1", b"after=" + b"9" * 400, b"camera[$ne]=x", b"camera='%20or%201=1",
    ))  # fmt: skip
    return _get(b"/api/events?" + bytes(asked))


def method(random: Random) -> bytes:
    verb = _one(random, (b"get", b"PUT", b"DELETE", b"PATCH", b"TRACE", b"CONNECT", b"PROPFIND",
                         b"OPTIONS", b"X" * 300, b"POST"))  # fmt: skip
    return _get(b"/livez").replace(b"GET", bytes(verb), 1)


def upgrade(random: Random) -> bytes:
    to = bytes(_one(random, (b"websocket", b"h2c", b"TLS/1.0")))
    lines = (b"Connection: Upgrade", b"Upgrade: " + to, b"Sec-WebSocket-Version: 13",
             b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")  # fmt: skip
    return _get(b"/api/socket", *lines)


def foreign(random: Random) -> bytes:
    host = bytes(
        _one(random, (b"evil.example", b"127.0.0.1.evil.example", b"[::2]", b"a" * 5000, b""))
    )
    return _get(b"/api/overview").replace(b"localhost", host, 1)


KINDS: tuple[Callable[[Random], bytes], ...] = (
    noise, request_line, header, no_host, huge_head, many_headers, chunks, long_body, body, media,
    path, query, method, upgrade, foreign,
)  # fmt: skip


def messages(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yields messages of every kind in turn, with the kind's name."""
    random = Random(seed)
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        yield kind.__name__, kind(random)
