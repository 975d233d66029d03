#!/usr/bin/env python3
"""What latest values cost: bytes a second of each technique, and a large feed read by a crowd.

`make bench-market` runs it. Everything is on one machine; publisher, readers and server share its processors, so that ages
are upper bounds. Bytes are those of answers, with their chunks or frames, without heads.
"""

import argparse
import json
import os
import random
import selectors
import socket
import subprocess
import threading
import time

HANDSHAKE = ("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")


class Server:
    """The program under test, on a port of its own."""

    def __init__(self, program, port):
        self.port = port
        self.process = subprocess.Popen(
            [program, "serve", "--listen", f"127.0.0.1:{port}", "--limits-exempt", "127.0.0.1"],
            stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                return socket.create_connection(("127.0.0.1", port)).close()
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("the server does not listen")

    def open(self, target, fields=""):
        """A connection that has asked for `target`."""
        conn = socket.create_connection(("127.0.0.1", self.port))
        conn.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
        return conn

    def cpu_seconds(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(") ")[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self):
        status = open(f"/proc/{self.process.pid}/status").read()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Publisher(threading.Thread):
    """Publishes quotes of ten members, of which three change, as batches: so many keys in turn, so many updates a second."""

    def __init__(self, port, keys, per_second):
        super().__init__(daemon=True)
        self.keys, self.per_second = keys, per_second
        self.conn = socket.create_connection(("127.0.0.1", port))
        self.is_over = threading.Event()
        self.published = 0

    def line(self, key, now):
        price = round(random.uniform(90, 110), 2)
        quote = {"symbol": f"KEY{key:05}", "name": f"Instrument number {key} of the feed that is measured here",
                 "currency": "EUR", "exchange": "Frankfurt am Main, Börse", "sector": "Industrial goods and services",
                 "open": 100.25, "close": 101.75, "last": price, "volume": random.randrange(10**9), "at": now}
        return json.dumps({"channel": "quotes", "key": quote["symbol"], "data": quote}, ensure_ascii=False)

    def run(self):
        at, start = 0, time.monotonic()
        while not self.is_over.is_set():
            due = int((time.monotonic() - start) * self.per_second) - self.published
            if due > 0:
                now = time.time()
                body = "\n".join(self.line((at + n) % self.keys, now) for n in range(min(due, 500))).encode()
                count = min(due, 500)
                at, self.published = (at + count) % self.keys, self.published + count
                head = f"POST /pub HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: {len(body)}\r\n\r\n"
                self.conn.sendall(head.encode() + body)
                self.answer()
            time.sleep(0.005)

    def answer(self):
        text = b""
        while b"\r\n\r\n" not in text:
            text += self.conn.recv(1 << 16)
        head, rest = text.split(b"\r\n\r\n", 1)
        assert b" 20" in head.split(b"\r\n")[0], head
        left = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) - len(rest)
        while left > 0:
            left -= len(self.conn.recv(1 << 16))


def count_stream(server, target, fields, seconds):
    """Bytes that come on an endless answer."""
    conn = server.open(target, fields)
    conn.settimeout(0.2)
    end, count, begun = time.monotonic() + seconds + 1, 0, time.monotonic() + 1
    while time.monotonic() < end:
        try:
            got = len(conn.recv(1 << 20))
        except socket.timeout:
            continue
        # The snapshot, in the first second, does not count.
        count += got if time.monotonic() > begun else 0
    conn.close()
    return count / seconds


def count_polls(server, target, fields, pause, seconds):
    """Bytes of the bodies of answers, each asked for when the one before has come."""
    conn = socket.create_connection(("127.0.0.1", server.port))
    place, count, begun, end = "", 0, time.monotonic() + 1, time.monotonic() + seconds + 1
    while time.monotonic() < end:
        conn.sendall(f"GET {target}{place and '&after=' + place} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
        text = b""
        while b"\r\n\r\n" not in text:
            text += conn.recv(1 << 20)
        head, body = text.split(b"\r\n\r\n", 1)
        length = head.lower().split(b"content-length: ")
        length = int(length[1].split(b"\r\n")[0]) if len(length) > 1 else 0
        while len(body) < length:
            body += conn.recv(1 << 20)
        place = head.split(b"Encke-Next: ")[1].split(b"\r\n")[0].decode()
        count += length if time.monotonic() > begun else 0
        time.sleep(pause)
    conn.close()
    return count / seconds


def techniques(server, seconds):
    """50 instruments at 20 updates a second each, on every technique."""
    publisher = Publisher(server.port, 50, 1000)
    publisher.start()
    time.sleep(1)
    accept, rows = "Accept: application/json\r\n", []
    for name, has_patches in [("stream", True), ("sse-envelope", True), ("websocket", True), ("iframe", True), ("sse", False),
                              ("multipart", False), ("x-mixed-replace", False), ("raw", False)]:
        as_, fields = ("x=1", HANDSHAKE) if name == "websocket" else (f"as={name}", "")
        wishes = ["after=now", "rate=2"] + (["rate=2&delta"] if has_patches else [])
        rows.append((name, [count_stream(server, f"/sub/quotes?{as_}&{wish}", fields, seconds) for wish in wishes]))
    for name, query, fields, pause in [("poll, JSON", "as=poll&max=1000", accept, 0),
                                       ("jsonp", "as=jsonp&callback=cb&max=1000", "", 0),
                                       ("interval, twice a second", "as=interval&max=1000", accept, 0.5)]:
        wishes = ["timeout=5", "rate=2"]
        rows.append((name, [count_polls(server, f"/sub/quotes?{query}&{wish}", fields, pause, seconds) for wish in wishes]))
    publisher.is_over.set()
    publisher.join()
    print("| technique | every update | `rate=2` | `rate=2&delta` |\n|---|---|---|---|")
    for name, figures in rows:
        cells = [f"{figure / 1000:.0f} KB/s" for figure in figures] + ["–"] * (3 - len(figures))
        print(f"| {name} | {' | '.join(cells)} |")


def crowd(server, clients, keys, per_second, wish, seconds):
    """A feed of so many keys, read by a crowd at 2 deliveries a second: processor, memory, and how old what is shown is."""
    publisher = Publisher(server.port, keys, per_second)
    publisher.start()
    time.sleep(1 + keys / per_second)
    selector = selectors.DefaultSelector()
    for number in range(clients):
        conn = server.open(f"/sub/quotes?as=stream&{wish}")
        conn.setblocking(False)
        # One in a hundred is looked at: it keeps a table, and its text.
        selector.register(conn, selectors.EVENT_READ, ({}, bytearray()) if number % 100 == 0 else None)
    ages, count, begun, memory = [], 0, None, 0
    end, next_look = time.monotonic() + 5 + seconds, time.monotonic() + 5
    while time.monotonic() < end:
        for key, _ in selector.select(0.01):
            try:
                got = key.fileobj.recv(1 << 20)
            except BlockingIOError:
                continue
            count += len(got) if begun else 0
            if key.data:
                read(key.data, got)
        if time.monotonic() >= next_look:
            if begun is None:
                begun = (time.monotonic(), server.cpu_seconds())
            # What readers show at this moment: how old it is.
            now = time.time()
            tables = [key.data[0] for key in selector.get_map().values() if key.data]
            ages += [now - at for table in tables for at in table.values()]
            memory = max(memory, server.memory_mb())
            next_look += 0.237
    took, cpu = time.monotonic() - begun[0], server.cpu_seconds() - begun[1]
    publisher.is_over.set()
    publisher.join()
    for key in list(selector.get_map().values()):
        key.fileobj.close()
    # A value is shown until the next of its key comes: of a feed in turn, that is so long.
    ages.sort()
    period = keys / per_second
    print(f"| {clients} × `{wish}`, {keys} keys, {per_second}/s | {cpu / took * 100:.0f} % | {memory:.0f} MB | "
          f"{count / took / clients / 1000:.1f} KB/s | {(ages[int(len(ages) * .99)] - period) * 1000:.0f} ms |")


def read(state, got):
    table, text = state
    text += got
    *lines, rest = bytes(text).split(b"\n")
    text[:] = rest
    for line in lines:
        if not line.startswith(b"{"):
            continue
        message = json.loads(line)
        at = message.get("data", message.get("patch", {})).get("at")
        if at is not None:
            table[message["key"]] = at


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encke", default="target/release/encke")
    parser.add_argument("--port", type=int, default=26200)
    parser.add_argument("--seconds", type=float, default=5, help="for each technique")
    parser.add_argument("--crowd-seconds", type=float, default=60)
    args = parser.parse_args()
    server = Server(args.encke, args.port)
    try:
        techniques(server, args.seconds)
    finally:
        server.stop()
    print("\n| readers and feed | processor | memory | each reads | p99 age beyond the feed's own |\n|---|---|---|---|---|")
    for wish in ["rate=2", "rate=2&delta"]:
        server = Server(args.encke, args.port)
        try:
            crowd(server, 1000, 2000, 500, wish, args.crowd_seconds)
        finally:
            server.stop()


main()
