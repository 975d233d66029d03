#!/usr/bin/env python3
"""What Mercure costs: a delivery beside one of native server-sent events, a replay, a publication among many topics.

`make bench-mercure` runs it, in about three minutes. Figures are processor time of the server, which has one processor to
itself; this script, on another one, waits for it. Deliveries of both kinds are measured in turn, each by a server of its own.
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import resource
import selectors
import socket
import statistics
import subprocess
import time
from urllib.parse import quote

HUB = "/.well-known/mercure"
KEY = "a key of thirty-two bytes or more, for publishers and subscribers"
MARK = b"MARK"
# The server's processor; where there are others, they are ours.
SERVERS = min(os.sched_getaffinity(0))


def token():
    """What lets its holder publish on every topic."""
    part = lambda value: base64.urlsafe_b64encode(value).rstrip(b"=")
    signed = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps({"mercure": {"publish": ["*"]}}).encode())
    return (signed + b"." + part(hmac.new(KEY.encode(), signed, hashlib.sha256).digest())).decode()


TOKEN = token()


class Server:
    """The program under test, on a port and a processor of its own."""

    def __init__(self, args, *options):
        self.port = args.port
        environment = dict(os.environ, ENCKE_MERCURE_PUBLISHER_KEY=KEY, ENCKE_MERCURE_SUBSCRIBER_KEY=KEY)
        self.process = subprocess.Popen(
            [args.encke, "serve", "--listen", f"127.0.0.1:{args.port}", "--mercure-anonymous", "--heartbeat", "3600",
             "--limits-exempt", "127.0.0.1", *options],
            env=environment, stderr=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, {SERVERS}))
        for _ in range(200):
            try:
                return self.connect().close()
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("the server does not listen")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port))

    def open(self, target, fields=""):
        """A connection that has asked for `target`."""
        conn = self.connect()
        conn.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n{fields}\r\n".encode())
        return conn

    def cpu_us(self):
        """Processor time of its reactor."""
        return int(open(f"/proc/{self.process.pid}/schedstat").read().split()[0]) / 1000

    def memory_mb(self):
        status = open(f"/proc/{self.process.pid}/status").read()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


class Publisher:
    """Publishes on one connection, in batches of requests that do not wait for each other."""

    def __init__(self, server):
        self.conn, self.text = server.connect(), b""
        self.conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def publish(self, requests):
        """The bodies of the answers: ids, from the hub."""
        self.conn.sendall("".join(requests).encode())
        return [self.answer() for _ in requests]

    def answer(self):
        while b"\r\n\r\n" not in self.text:
            self.receive()
        head, _, self.text = self.text.partition(b"\r\n\r\n")
        assert head.split(b" ")[1] in (b"200", b"201", b"202"), head
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(self.text) < length:
            self.receive()
        body, self.text = self.text[:length], self.text[length:]
        return body.decode()

    def receive(self):
        got = self.conn.recv(1 << 16)
        assert got, "the server has closed"
        self.text += got


def update(topic, data):
    body = f"topic={quote(topic, safe='')}&data={data}"
    return (f"POST {HUB} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n{body}")


def message(channel, data):
    return f"POST /pub/{channel} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n{data}"


class Crowd:
    """Connections that listen."""

    def __init__(self, server, targets):
        self.selector, self.size = selectors.DefaultSelector(), 0
        for target in targets:
            conn = server.open(target)
            while b"\r\n\r\n" not in conn.recv(1 << 16):
                pass
            conn.setblocking(False)
            self.selector.register(conn, selectors.EVENT_READ)
            self.size += 1

    def read(self, count):
        """Reads until so many messages have come."""
        end = time.monotonic() + 30
        while count > 0:
            assert time.monotonic() < end, f"{count} messages are missing"
            for key, _ in self.selector.select(1):
                count -= key.fileobj.recv(1 << 16).count(MARK)

    def close(self):
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()


def deliveries(args, make_target, make_request):
    """µs for each delivery to so many subscribers of so many topics; the median of rounds."""
    with Server(args) as server:
        crowd = Crowd(server, [make_target(number % args.topics) for number in range(args.subscribers)])
        publisher, rounds = Publisher(server), []
        for _ in range(args.rounds):
            before = server.cpu_us()
            for topic in range(args.topics):
                publisher.publish([make_request(topic, MARK.decode() + "x" * 100)])
            crowd.read(crowd.size)
            rounds.append((server.cpu_us() - before) / crowd.size)
        crowd.close()
        return statistics.median(rounds)


def compare_deliveries(args):
    topic = lambda number: f"https://example.com/topics/{number}"
    for _ in range(args.pairs):
        native = deliveries(args, lambda number: f"/sub/topic{number}?as=sse",
                            lambda number, data: message(f"topic{number}", data))
        mercure = deliveries(args, lambda number: f"{HUB}?topic={quote(topic(number), safe='')}",
                             lambda number, data: update(topic(number), data))
        print(f"| a delivery, {args.subscribers} subscribers of {args.topics} topics | {mercure:.2f} µs, "
              f"{mercure / native:.2f} × native server-sent events ({native:.2f} µs) |", flush=True)


def replay(args):
    """What 1,000 missed updates cost after so many were published and are kept."""
    missed = 1000
    limits = ["--history-messages", str(args.kept), "--history-total-bytes", "3GiB", "--history-seconds", "86400"]
    with Server(args, *limits) as server:
        publisher, ids = Publisher(server), []
        for begin in range(0, args.kept, 50):
            ids = (ids + publisher.publish([update(f"https://example.com/kept/{number % 50}", f"{MARK.decode()}{number}")
                                            for number in range(begin, begin + 50)]))[-missed - 1:]
        for name, selector in [("`*`", "*"), ("a template", "https://example.com/kept/{number}")]:
            target, fields = f"{HUB}?topic={quote(selector, safe='')}", f"Last-Event-ID: {ids[0]}\r\n"
            costs = sorted(replay_once(server, target, fields, missed) for _ in range(args.rounds))
            cpu, took = costs[len(costs) // 2]
            print(f"| replay of {missed} missed updates of {args.kept}, by {name} | {cpu:.0f} µs, done after {took * 1000:.1f} ms |",
                  flush=True)
        print(f"| memory with these {args.kept} | {server.memory_mb():.0f} MB |", flush=True)


def replay_once(server, target, fields, missed):
    before, begun, got = server.cpu_us(), time.monotonic(), b""
    conn = server.open(target, fields)
    conn.settimeout(30)
    while got.count(b"data: " + MARK) < missed:
        got += conn.recv(1 << 20)
    took = time.monotonic() - begun
    conn.close()
    assert got.count(b"data: " + MARK) == missed
    return server.cpu_us() - before, took


def many_topics(args):
    """What a publication costs among many topics, without and with templates that somebody listens by."""
    with Server(args, "--limits-channels", str(4 * args.many)) as server:
        publisher = Publisher(server)

        def cost(space, count):
            before = server.cpu_us()
            for number in range(count):
                publisher.publish([update(f"https://example.com/{space}/{number}", "x")])
            return (server.cpu_us() - before) / count

        new, known = cost("a", args.many), cost("a", args.many // 5)
        print(f"| a publication on a new topic, until there are {args.many} | {new:.1f} µs |")
        print(f"| on a topic that is there | {known:.1f} µs |")
        crowd = Crowd(server, [f"{HUB}?topic={quote(f'https://example.com/{number}/{{id}}', safe='')}"
                               for number in range(args.templates)])
        known, new = cost("a", args.many // 5), cost("b", args.many // 5)
        print(f"| the same with {args.templates} templates | {known:.1f} µs; on a new topic {new:.1f} µs |", flush=True)
        crowd.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encke", default="target/release/encke")
    parser.add_argument("--port", type=int, default=26210)
    parser.add_argument("--pairs", type=int, default=3, help="of servers whose deliveries are compared")
    parser.add_argument("--rounds", type=int, default=9, help="of which the median counts")
    parser.add_argument("--subscribers", type=int, default=10_000)
    parser.add_argument("--topics", type=int, default=100)
    parser.add_argument("--kept", type=int, default=1_000_000, help="updates in the history")
    parser.add_argument("--many", type=int, default=100_000, help="topics that a publication is among")
    parser.add_argument("--templates", type=int, default=1000)
    args = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.sched_setaffinity(0, os.sched_getaffinity(0) - {SERVERS} or {SERVERS})
    print("| measure | processor time of the server |\n|---|---|")
    compare_deliveries(args)
    many_topics(args)
    replay(args)


main()
