"""Python clients that are not ours, unmodified, against the real server: python -m unittest clients_test.

Each gets all in order, takes openings and heartbeats for nothing, comes back where its connection was cut, is told of
what a restart lost, and goes on after a limit when there is room.
"""

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import unittest

import httpx
import httpx_sse
import requests
import sseclient
import websocket

ENCKE = os.environ.get("ENCKE_BIN", os.path.join(os.path.dirname(__file__), "../../target/debug/encke"))
PATIENCE = 60  # it costs only where a test fails
PORTS = itertools.count(os.getpid() * 101)


def free_port():
    """A port that is free, and none that the system gives to clients: it stays free while its server is away."""
    for number in PORTS:
        port = 12_000 + number % 20_000
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


class Server:
    """The server at `port`, or at one of its own, which ends with the test."""

    def __init__(self, test, *options, port=None):
        address = f"127.0.0.1:{port or free_port()}"
        command = [ENCKE, "serve", "--listen", address, "--heartbeat", "1", "--history-messages", "1000", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        test.addCleanup(self.stop)
        for line in self.process.stderr:
            if found := re.search(r"listening on \S+:(\d+)", line):
                self.port = int(found[1])
                break
        else:
            raise AssertionError("the server left")
        self.log = threading.Thread(target=self.read_log, daemon=True)
        self.log.start()

    def read_log(self):
        with self.process.stderr as log:
            log.read()

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.join()

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def publish(self, *numbers):
        for number in numbers:
            requests.post(self.url("/pub/python/a"), json={"n": number}, timeout=PATIENCE).raise_for_status()

    def heartbeats(self):
        return requests.get(self.url("/stats"), timeout=PATIENCE).json()["heartbeats"]


class Client:
    """Reads in a thread: `run(self, place)` yields (event, data, id) until its connection ends, and is run again."""

    def __init__(self, test, port):
        self.port, self.place, self.numbers, self.gaps, self.opens, self.tries, self.error = port, None, [], [], 0, 0, None
        self.is_over, self.end = False, lambda: None
        threading.Thread(target=self.loop, daemon=True).start()
        test.addCleanup(self.close)

    def loop(self):
        while not self.is_over:
            try:
                for event, data, place in self.run(self.place):
                    # As its readers do: whatever comes is parsed.
                    value = json.loads(data)
                    self.place = place or self.place
                    if event == "encke.open":
                        self.opens += 1
                    elif event == "encke.gap":
                        self.gaps.append(value)
                    else:
                        self.numbers.append(value["n"])
            except json.JSONDecodeError as error:
                self.error = error
            except Exception:  # the connection's end has as many names as there are libraries
                pass
            self.tries += 1
            time.sleep(0.1)

    def close(self):
        self.is_over = True
        self.cut()

    def cut(self):
        try:
            self.end()
        except Exception:
            pass

    def wait(self, what):
        end = time.monotonic() + PATIENCE
        while not what(self):
            if self.error or time.monotonic() > end:
                raise AssertionError(f"waited in vain: {self.error!r}, {self.opens} openings, {self.numbers}, {self.gaps}")
            time.sleep(0.02)

    def url(self, scheme="http"):
        return f"{scheme}://127.0.0.1:{self.port}/sub/python/a"


class WithRequests(Client):
    """requests and sseclient-py."""

    def run(self, place):
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": place} if place else {})}
        with requests.get(self.url(), headers=headers, stream=True, timeout=PATIENCE) as answer:
            client = sseclient.SSEClient(answer)
            self.end = lambda: answer.raw._fp.fp.raw._sock.shutdown(2)
            for event in client.events():
                yield event.event, event.data, event.id


class WithHttpx(Client):
    """httpx and httpx-sse."""

    def run(self, place):
        headers = {"Last-Event-ID": place} if place else {}
        with httpx.Client(timeout=PATIENCE) as client:
            with httpx_sse.connect_sse(client, "GET", self.url(), headers=headers) as source:
                network = source.response.extensions["network_stream"]
                self.end = lambda: network.get_extra_info("socket").shutdown(2)
                for event in source.iter_sse():
                    yield event.event, event.data, event.id


class WithWebSocket(Client):
    """websocket-client."""

    def run(self, place):
        connection = websocket.create_connection(f"{self.url('ws')}?after={place or 'now'}", timeout=PATIENCE)
        self.end = lambda: connection.sock.shutdown(2)
        while text := connection.recv():
            envelope = json.loads(text)
            if gap := envelope.get("gap"):
                yield "encke.gap", json.dumps(gap), None
            elif "next" in envelope:
                yield "encke.open", text, envelope["next"]
            elif "id" in envelope:
                yield None, json.dumps(envelope["data"]), envelope["id"]


CLIENTS = (WithRequests, WithHttpx, WithWebSocket)


class Clients(unittest.TestCase):
    def each(self, scenario):
        for client in CLIENTS:
            with self.subTest(client.__doc__):
                server = Server(self)
                opened = client(self, server.port)
                opened.wait(lambda client: client.opens)
                scenario(server, opened)

    def test_all_comes_in_order_and_heartbeats_are_nothing(self):
        def scenario(server, client):
            server.publish(*range(20))
            before = server.heartbeats()
            client.wait(lambda client: server.heartbeats() > before + 1)
            server.publish(*range(20, 40))
            client.wait(lambda client: len(client.numbers) >= 40)
            self.assertEqual((client.numbers, client.gaps), (list(range(40)), []))
        self.each(scenario)

    def test_nothing_is_lost_by_cuts(self):
        def scenario(server, client):
            for start in range(0, 60, 20):
                server.publish(*range(start, start + 10))
                client.wait(lambda client: len(client.numbers) >= start + 10)
                client.cut()
                server.publish(*range(start + 10, start + 20))
            client.wait(lambda client: len(client.numbers) >= 60)
            self.assertEqual((client.numbers, client.gaps), (list(range(60)), []))
        self.each(scenario)

    def test_what_a_restart_lost_is_told(self):
        def scenario(server, client):
            server.publish(0, 1, 2)
            client.wait(lambda client: len(client.numbers) >= 3)
            server.stop()
            before = client.tries
            client.wait(lambda client: client.tries > before + 2)
            again = Server(self, port=server.port)
            again.publish(3, 4)
            client.wait(lambda client: len(client.numbers) >= 5)
            self.assertEqual(client.numbers, [0, 1, 2, 3, 4])
            self.assertEqual(len(client.gaps), 1)
        self.each(scenario)

    def test_a_limit_is_not_the_end(self):
        for client in CLIENTS:
            with self.subTest(client.__doc__):
                server = Server(self, "--limits-connections", "3")
                holders = [requests.get(server.url("/sub/python/other?as=sse"), stream=True, timeout=PATIENCE) for _ in range(3)]
                refused = client(self, server.port)
                refused.wait(lambda client: client.tries > 1)
                self.assertEqual((refused.opens, refused.numbers, refused.error), (0, [], None))
                for holder in holders:
                    holder.close()
                refused.wait(lambda client: client.opens)
                refused.wait(lambda _: published(server))
                refused.wait(lambda client: client.numbers)
                self.assertEqual((refused.numbers, refused.gaps), ([0], []))


def published(server):
    """Whether there was room to publish."""
    try:
        server.publish(0)
        return True
    except requests.HTTPError:
        return False


if __name__ == "__main__":
    unittest.main()
