"""What callers may make the service call: public addresses over https, whatever names, redirects and resolvers say."""

import asyncio
import json
import ssl
import subprocess
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from videogen.errors import InvalidRequest, InvalidSetting
from videogen.serving.outgoing import Outgoing, is_public
from videogen.settings import read_settings


def read_allowed(text):
    return read_settings({"VIDEOGEN_OUTGOING_ALLOW": text}).outgoing_allow


def resolver(*answers):
    """Gives each answer in turn, the last for ever; its `asked` counts."""
    left = list(answers)

    async def resolve(host, port):
        resolve.asked += 1
        return left.pop(0) if len(left) > 1 else left[0]

    resolve.asked = 0
    return resolve


def check(url, outgoing):
    return asyncio.run(outgoing.check(url, "webhook_url"))


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::808:808"])
def test_public_addresses_are_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "::", "::1", "fe80::1", "fc00::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
        *("2002:7f00:1::", "2001:0:4136:e378::1", "2001:db8::1", "fe80::1%eth0", "not an address"),
    ],
)
def test_all_others_are_not(address):
    assert not is_public(address)
    with pytest.raises(InvalidRequest, match=r"webhook_url: .*public addresses"):
        check("https://hooks.example/x", Outgoing(resolver=resolver([address])))


@pytest.mark.parametrize(
    "url",
    [
        *("http://hooks.example/x", "ftp://hooks.example", "https://", "//hooks.example", "file:///etc/passwd", "x"),
        *("https://user:secret@hooks.example/", "https://hooks.example:0/", "https://hooks.example:99999/"),
        "https://hooks.example/" + "x" * 3000,
    ],
)
def test_urls_that_are_no_plain_https_are_refused_without_telling_a_password(url):
    with pytest.raises(InvalidRequest, match="webhook_url") as refused:
        check(url, Outgoing(resolver=resolver(["93.184.215.14"])))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "localhost", "[::ffff:7f00:1]"])
def test_other_spellings_of_loopback_are_found_by_resolving_them(host):
    with pytest.raises(InvalidRequest):
        check(f"https://{host}/x", Outgoing())


def test_one_private_address_among_public_ones_is_enough_to_refuse():
    with pytest.raises(InvalidRequest):
        check("https://hooks.example/x", Outgoing(resolver=resolver(["93.184.215.14", "10.0.0.1"])))


def test_a_name_without_addresses_is_refused():
    with pytest.raises(InvalidRequest, match="resolved"):
        check("https://hooks.example/x", Outgoing(resolver=resolver([])))


def test_a_host_may_be_allowed_with_any_port_or_with_one():
    for allowed in ("127.0.0.1:9000", "127.0.0.1"):
        assert check("http://127.0.0.1:9000/x", Outgoing(read_allowed(allowed))).port == 9000
    with pytest.raises(InvalidRequest):
        check("http://127.0.0.1:9001/x", Outgoing(read_allowed("127.0.0.1:9000")))


@pytest.mark.parametrize("text", ["https://a.b", "a.b/c", "*", "a b"])
def test_a_malformed_list_of_allowed_hosts_names_its_variable(text):
    with pytest.raises(InvalidSetting, match="VIDEOGEN_OUTGOING_ALLOW"):
        read_allowed(text)


class Receiver(BaseHTTPRequestHandler):
    """Answers as its server's `answers` say: a status, a URL to be redirected to, or 200 once an event is set."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append((self.path, dict(self.headers), body))
        answer = self.server.answers.get(self.path, 200)
        if isinstance(answer, threading.Event):
            answer = 200 if answer.wait(60) else 500
        self.send_response(answer if isinstance(answer, int) else 307)
        if isinstance(answer, str):
            self.send_header("Location", answer)
        self.send_header("Set-Cookie", "whose=the receiver's")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.seen, server.answers = [], {}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def post(url, outgoing):
    async def go():
        try:
            return await outgoing.post(url, b"{}", {"content-type": "application/json"})
        finally:
            await outgoing.close()

    return asyncio.run(go())


def test_a_name_that_is_resolved_anew_leads_nowhere_else(receiver):
    """What is connected to is what was checked: the resolver is asked once, its later answer never counts."""
    port = receiver.server_port
    names = resolver(["127.0.0.1"], ["192.0.2.1"])
    assert post(f"http://hooks.test:{port}/x?a=1", Outgoing(frozenset({"hooks.test"}), names)) == 200
    path, headers, body = receiver.seen[0]
    assert (path, headers["Host"], body) == ("/x?a=1", f"hooks.test:{port}", b"{}") and names.asked == 1


def test_a_redirect_to_a_private_address_is_refused(receiver):
    receiver.answers["/x"] = f"http://localhost:{receiver.server_port}/inside"
    with pytest.raises(InvalidRequest):
        post(f"http://127.0.0.1:{receiver.server_port}/x", Outgoing(frozenset({"127.0.0.1"})))
    assert [path for path, _, _ in receiver.seen] == ["/x"]


def test_a_receiver_sets_no_cookies(receiver):
    receiver.answers["/x"] = "/y"
    post(f"http://127.0.0.1:{receiver.server_port}/x", Outgoing(frozenset({"127.0.0.1"})))
    assert [path for path, headers, _ in receiver.seen if "Cookie" not in headers] == ["/x", "/y"]


def test_an_answer_that_never_ends_is_given_up(monkeypatch):
    """It comes a byte at a time, so that no single read takes long."""
    monkeypatch.setattr("videogen.serving.outgoing.POST_S", 0.5)

    async def drip(reader, writer):
        with suppress(ConnectionError):
            while True:
                writer.write(b"H")
                await writer.drain()
                await asyncio.sleep(0.05)

    async def go():
        async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
            port, outgoing = server.sockets[0].getsockname()[1], Outgoing(frozenset({"127.0.0.1"}))
            with pytest.raises(TimeoutError):
                await outgoing.post(f"http://127.0.0.1:{port}/x", b"{}", {})
            await outgoing.close()

    asyncio.run(asyncio.wait_for(go(), 30.0))


def test_redirects_are_followed_a_few_times(receiver):
    receiver.answers |= {"/x": "/y", "/loop": "/loop"}
    outgoing = Outgoing(frozenset({"127.0.0.1"}))
    assert post(f"http://127.0.0.1:{receiver.server_port}/x", outgoing) == 200
    assert [path for path, _, _ in receiver.seen] == ["/x", "/y"]
    assert post(f"http://127.0.0.1:{receiver.server_port}/loop", Outgoing(frozenset({"127.0.0.1"}))) == 307
    assert len(receiver.seen) == 2 + 4


def test_the_certificate_has_to_be_the_names_although_the_address_is_called(receiver, tmp_path):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=hooks.test"]
    names = ["-addext", "subjectAltName=DNS:hooks.test", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    trust, names = ssl.create_default_context(cafile=str(cert)), resolver(["127.0.0.1"])
    allowed = frozenset({"hooks.test", "other.test"})
    assert post(f"https://hooks.test:{receiver.server_port}/x", Outgoing(allowed, names, trust)) == 200
    with pytest.raises(httpx.ConnectError, match=r"other\.test"):
        post(f"https://other.test:{receiver.server_port}/x", Outgoing(allowed, names, trust))
    assert json.loads(receiver.seen[0][2]) == {} and len(receiver.seen) == 1
