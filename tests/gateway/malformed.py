"""Requests that are wrong in every way, made from a seed: what is sent, and whether the client then closes its side."""

import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

from gateway.asking import CHAT
from gateway.plan import KEYS

KEY = KEYS["demo"].encode()
PATH = CHAT.encode()
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass(frozen=True)
class Case:
    kind: str
    sent: bytes
    half_close: bool = False


def head(*lines: bytes, path: bytes = PATH, method: bytes = b"POST", close: bool = True) -> bytes:
    fixed = [b"host: gateway", b"authorization: Bearer " + KEY, *([b"connection: close"] if close else [])]
    return b"\r\n".join([method + b" " + path + b" HTTP/1.1", *fixed, *lines]) + b"\r\n\r\n"


def whole(body: bytes, *lines: bytes, close: bool = True) -> bytes:
    return head(b"content-length: %d" % len(body), *lines, close=close) + body


def good(rng: random.Random) -> bytes:
    content = rng.choice(["hi", "x" * rng.randrange(2000), "\u00fcber \U0001f600 \u05d0", '{"model": "none"}'])
    return json.dumps({"model": "duo", "messages": [{"role": "user", "content": content}], "max_tokens": 3}).encode()


def truncated_body(rng: random.Random) -> Case:
    body = good(rng)
    return Case("truncated JSON", whole(body[: rng.randrange(len(body))]))


def truncated_request(rng: random.Random) -> Case:
    sent = whole(good(rng))
    return Case("truncated request", sent[: rng.randrange(len(sent))], half_close=True)


def deep(rng: random.Random) -> Case:
    depth = rng.choice([5, 19, 20, 21, 100, 1000, 20000])
    left, right = rng.choice([(b"[", b"]"), (b'{"a":', b"}")])
    inner = left * depth + b"1" + right * rng.choice([depth, depth, depth - 1, depth + 1])
    body = rng.choice([b'{"model":"duo","messages":%s}', b'{"x":%s,"model":"duo"}', b"%s"]) % inner
    return Case("deep", whole(body))


def huge(rng: random.Random) -> Case:
    body = rng.choice(
        [
            b'{"model":"duo","messages":"%s"}' % (b"x" * rng.choice([10_000, 262_000, 300_000])),
            b'{"model":"%s"}' % (b"m" * rng.choice([200, 20_000, 250_000])),
            b'{"model":"duo",%s}' % b",".join(b'"k%d":%d' % (n, n) for n in range(rng.choice([100, 9000]))),
            b'{"model":"duo","max_tokens":%s}' % (b"9" * rng.choice([20, 400, 100_000])),
            b'{"model":"duo","messages":[]}' + b" " * rng.choice([1, 70_000]),
        ]
    )
    if rng.random() < 0.1:
        return Case("huge", head(b"content-length: 99999999999999"), half_close=True)
    return Case("huge", whole(body))


def duplicates(rng: random.Random) -> Case:
    names = ["model", "messages", "stream", "max_tokens", "n"]
    values = ['"duo"', '"wide"', "true", "false", "null", "3", "[]", "{}", '"x"']
    pairs = [f'"{rng.choice(names)}":{rng.choice(values)}' for _ in range(rng.randrange(2, 9))]
    return Case("duplicate keys", whole(("{" + ",".join(pairs) + "}").encode()))


def wrong_types(rng: random.Random) -> Case:
    odd = [
        "1",
        "-1",
        "1e999",
        "NaN",
        "null",
        "true",
        '""',
        "[]",
        "{}",
        "[[1]]",
        '"\\u0000"',
        "0x10",
        "01",
        "'duo'",
        "undefined",
    ]
    fields = {"model": '"duo"', "messages": '[{"role":"user","content":"hi"}]', "max_tokens": "3"}
    for name in rng.sample([*fields, "stream", "n", "stop", "tools", "logit_bias"], rng.randrange(1, 4)):
        fields[name] = rng.choice(odd)
    return Case(
        "wrong types", whole(("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}").encode())
    )


def unicode_tricks(rng: random.Random) -> Case:
    trick = rng.choice(
        [
            b'{"\\u006dodel":"duo","messages":[]}',
            b'{"model":"\\u0064uo","messages":[]}',
            b'{"model":"\\ud800","messages":[]}',
            b'{"model":"duo\\u0000","messages":[]}',
            b'\xef\xbb\xbf{"model":"duo","messages":[]}',
            b'{"model":"d\xc1\xb5o","messages":[]}',
            b'{"model":"duo","messages":"\xff\xfe\x80"}',
            b'{"mode\xe2\x80\x8bl":"duo"}',
            b'{"model":"\xe2\x80\xaeoud"}',
            '{"model":"duo","messages":[]}'.encode("utf-16"),
            '{"model":"duo"}'.encode("utf-32-le"),
            b'{"model":"duo"\x00,"messages":[]}',
            b'{"model":"duo","\\',
        ]
    )
    return Case(
        "unicode",
        whole(trick, rng.choice([b"content-type: application/json", b"content-type: text/plain; charset=utf-16"])),
    )


def chunked(rng: random.Random) -> Case:
    body, pieces = good(rng), b""
    while body:
        size = rng.randrange(1, 64)
        piece, body = body[:size], body[size:]
        told = len(piece) + rng.choice([0, 0, 0, 0, 0, 0, 1, -1])
        extension = rng.choice([b"", b"", b";x=y", b";" + b"z" * 300, b" "])
        pieces += b"%x%s\r\n%s\r\n" % (max(told, 0), extension, piece)
    ending = rng.choice(
        [b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"", b"0\r\n", b"00000000000\r\n\r\n", b"-0\r\n\r\n"]
    )
    lines = [
        b"transfer-encoding: "
        + rng.choice([b"chunked", b"chunked", b"Chunked", b"chunked,chunked", b"gzip, chunked", b"\x0bchunked"])
    ]
    if rng.random() < 0.3:
        lines.insert(rng.randrange(2), b"content-length: %d" % rng.randrange(200))
    return Case(
        "chunked", head(*lines) + pieces + ending, half_close=not ending or ending == b"0\r\n" or rng.random() < 0.2
    )


def odd_headers(rng: random.Random) -> Case:
    lines = [
        rng.choice(
            [
                b"x-" + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 20))) + b": y",
                b"x: " + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 60))),
                b"content-length: " + rng.choice([b"", b"-1", b"1,2", b"0x5", b"99999999999999999999", b"5 5"]),
                b" folded",
                b"no colon at all",
                b"host: other",
                b"x-request-id: " + bytes(rng.randrange(33, 127) for _ in range(rng.randrange(300))),
                b"authorization: Bearer other",
                b"x-rackserve-lane: internal",
                b"expect: " + rng.choice([b"100-continue", b"nothing"]),
                b"upgrade: h2c",
                b"te: trailers, " + b"x" * 50,
                b"x: " + b"y" * rng.choice([100, 9000, 70_000]),
            ]
        )
        for _ in range(rng.choice([1, 2, 3, 120]))
    ]
    return Case("headers", whole(good(rng), *lines), half_close=rng.random() < 0.3)


def odd_request_line(rng: random.Random) -> Case:
    line = rng.choice(
        [
            b"POST " + PATH + rng.choice([b" HTTP/9.9", b" HTTP/0.9", b" HTTP/1.10", b" http/1.1", b"", b" HTTP/2.0"]),
            rng.choice([b"GET", b"PUT", b"TRACE", b"CONNECT", b"OPTIONS", b"PRI", b"post", b"P\x00ST", b"M" * 300])
            + b" "
            + PATH
            + b" HTTP/1.1",
            b"POST "
            + rng.choice(
                [
                    b"*",
                    b"//",
                    b"http://other/v1/models",
                    b"/%00",
                    b"/v1/../v1/chat/completions",
                    b"/\xff\xfe",
                    b"/" + b"a" * rng.choice([300, 20_000]),
                    b"/v1/models/" + b"%2e" * 90,
                    b" ",
                ]
            )
            + b" HTTP/1.1",
            bytes(rng.randrange(256) for _ in range(rng.randrange(1, 80))),
        ]
    )
    return Case(
        "request line",
        line + b"\r\nhost: a\r\nauthorization: Bearer " + KEY + b"\r\nconnection: close\r\n\r\n",
        half_close=True,
    )


def pipelined(rng: random.Random) -> Case:
    parts = []
    for _ in range(rng.randrange(2, 7)):
        made = rng.choice([truncated_body, wrong_types, unicode_tricks, duplicates])(rng).sent
        parts.append(made.replace(b"connection: close\r\n", b""))
    return Case("pipelined", b"".join(parts) + whole(good(rng)))


def http2(rng: random.Random) -> Case:
    frames = b""
    for _ in range(rng.randrange(0, 6)):
        payload = bytes(rng.randrange(256) for _ in range(rng.randrange(0, 60)))
        told = len(payload) + rng.choice([0, 0, 0, 1, 70_000])
        frames += struct.pack(">I", told)[1:] + bytes([rng.randrange(12), rng.randrange(256)])
        frames += struct.pack(">I", rng.choice([0, 1, 2, 3, 2**31 - 1])) + payload
    settings = rng.choice([b"", b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"])
    return Case("http/2", PREFACE[: rng.choice([len(PREFACE), len(PREFACE), 10])] + settings + frames, half_close=True)


def noise(rng: random.Random) -> Case:
    start = rng.choice([b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\r\n" * 20, b"GET / HTTP/1.1\r\n"])
    return Case("noise", start + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 400))), half_close=True)


def flipped(rng: random.Random) -> Case:
    sent = bytearray(whole(good(rng)))
    for _ in range(rng.randrange(1, 6)):
        sent[rng.randrange(len(sent))] = rng.randrange(256)
    return Case("flipped bytes", bytes(sent), half_close=True)


def half_closed(rng: random.Random) -> Case:
    return Case("half-closed", whole(good(rng)), half_close=True)


KINDS: tuple[Callable[[random.Random], Case], ...] = (
    *(truncated_body, truncated_request, deep, huge, duplicates, wrong_types, unicode_tricks, chunked),
    *(odd_headers, odd_request_line, pipelined, http2, noise, flipped, half_closed),
)


def cases(seed: int, number: int) -> list[Case]:
    """Every kind equally often. The same seed gives the same bytes."""
    rng = random.Random(seed)
    return [KINDS[index % len(KINDS)](rng) for index in range(number)]
