"""The local server: what it answers, to whom, and what misbehaving clients cannot do. Loopback only."""

import http.client
import os
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from smerf.errors import UsageError
from smerf.export import bounded_server
from smerf.export import serve as serving
from smerf.export.serve import SceneServer


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site"
    (folder / "baked").mkdir(parents=True)
    (folder / "index.html").write_text("<title>page</title>")
    (folder / "baked" / "plane.raw").write_bytes(bytes(range(200)))
    (folder / "baked" / "large.raw").write_bytes(bytes(8 << 20))
    (tmp_path / "secret.txt").write_text("secret")
    return folder


@pytest.fixture
def server(site):
    with SceneServer(site) as running:
        yield running


def ask(server, path="/", method="GET", **headers):
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def connect(server):
    return socket.create_connection((urlsplit(server.url).hostname, urlsplit(server.url).port), timeout=20)


def test_answers_keep_other_origins_out(server):
    for path in ("/", "/baked/plane.raw", "/none"):
        headers = ask(server, path, Origin="http://evil.example")[1]
        assert headers["Access-Control-Allow-Origin"] is None
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]
        assert "default-src 'self'" in headers["Content-Security-Policy"]


def test_an_origin_that_is_named_may_read_and_frame(site):
    with SceneServer(site, allow_origin="https://example.org") as server:
        headers = ask(server)[1]
    assert headers["Access-Control-Allow-Origin"] == "https://example.org"
    assert headers["Content-Security-Policy"].endswith("frame-ancestors 'self' https://example.org")
    with pytest.raises(UsageError, match="allow-origin"):
        SceneServer(site, allow_origin="example.org/page; x")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1:8080", "[::1]:8080"])
def test_names_of_this_machine_are_answered(server, host):
    assert ask(server, Host=host)[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1", "1.2.3.4"]
)
def test_names_that_only_lead_here_are_refused(server, host):
    status, _, body = ask(server, Host=host)
    assert status == 421 and b"page" not in body


def test_an_open_address_answers_to_any_number_but_to_no_foreign_name(site):
    with SceneServer(site, host="0.0.0.0") as server:
        for host, status in (("10.1.2.3:8080", 200), (socket.gethostname(), 200), ("evil.example", 421)):
            assert ask(server, Host=host)[0] == status


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/baked/..%2f..%2fsecret.txt",
        "/baked/..%5c..%5csecret.txt",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/baked/plane.raw%00.png",
        "/" + "a" * 5000,
        "/baked/plane.raw/more",
        "/pipe",
        "/out.txt",
        "/out/secret.txt",
        "/loop",
    ],
)
def test_nothing_outside_the_folder_is_reached(server, site, path):
    os.mkfifo(site / "pipe")
    (site / "out.txt").symlink_to(site.parent / "secret.txt")
    (site / "out").symlink_to(site.parent, target_is_directory=True)
    (site / "loop").symlink_to(site / "loop")
    status, _, body = ask(server, path)
    assert status == 404 and b"secret" not in body


def test_links_inside_the_folder_and_the_folder_itself_may_be_links(site, tmp_path):
    (site / "again.raw").symlink_to(site / "baked" / "plane.raw")
    (tmp_path / "link").symlink_to(site, target_is_directory=True)
    with SceneServer(tmp_path / "link") as server:
        assert ask(server, "/again.raw")[2] == bytes(range(200))


@pytest.mark.parametrize(
    "asked, status",
    [
        ("bytes=200-", 416),
        ("bytes=5-2", 416),
        ("bytes=-0", 416),
        ("bytes=abc", 400),
        ("bytes=-", 400),
        ("lines=0-1", 400),
        ("bytes=" + "9" * 5000 + "-", 400),
        ("bytes=0-0", 206),
        ("bytes=-5", 206),
        ("bytes=190-999", 206),
        ("bytes=0-1,5-6", 200),
    ],
)
def test_ranges(server, asked, status):
    answer, headers, body = ask(server, "/baked/plane.raw", Range=asked)
    assert answer == status and len(body) == int(headers["Content-Length"])
    if status == 416:
        assert headers["Content-Range"] == "bytes */200"
    if asked == "bytes=190-999":
        assert body == bytes(range(190, 200)) and headers["Content-Range"] == "bytes 190-199/200"


def test_requests_that_are_none_and_other_methods_do_not_stop_the_server(server):
    for text in (
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET //[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ):
        with connect(server) as client:
            client.sendall(text)
            assert b" 200 " not in client.recv(1000)
    assert ask(server, method="POST")[0] == 501
    assert ask(server)[0] == 200


def test_fifty_clients_at_once_are_served(server):
    results = []

    def client():
        results.append(len(ask(server, "/baked/large.raw")[2]))

    threads = [threading.Thread(target=client) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [8 << 20] * 50


def test_a_hundred_silent_clients_neither_block_others_nor_take_threads_without_bound(server):
    before = threading.active_count()
    clients = [connect(server) for _ in range(100)]
    try:
        for client in clients:
            client.sendall(b"GET / HT")
        assert ask(server)[0] == 200
        assert threading.active_count() - before <= bounded_server.MAX_CONNECTIONS
    finally:
        for client in clients:
            client.close()


def test_a_client_that_sends_or_takes_too_slowly_is_cut_off(site, monkeypatch):
    monkeypatch.setattr(serving, "REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(serving, "MIN_BYTES_PER_SECOND", 1 << 26)
    with SceneServer(site) as server:
        with connect(server) as sender:
            sender.sendall(b"GET / HTTP/1.1\r\n")
            assert sender.recv(1000) == b""
        with connect(server) as taker:
            taker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            taker.sendall(b"GET /baked/large.raw HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(1.5)
            received = 0
            while data := taker.recv(1 << 20):
                received += len(data)
        assert received < 8 << 20
