"""Ray address: an answer within seconds for addresses where no cluster is."""

import socket
import threading

import pytest

from inr_factory.errors import UsageError
from inr_factory.generation.execution import ray_address
from inr_factory.generation.execution.ray_address import check_address


@pytest.fixture
def server(monkeypatch):
    """Starts a server that answers each client with some bytes; returns its address."""
    monkeypatch.setattr(ray_address, "ANSWER_SECONDS", 0.3)
    opened = []

    def start(answer):
        listener = socket.create_server(("127.0.0.1", 0))
        opened.append(listener)

        def serve():
            connection, _ = listener.accept()
            opened.append(connection)
            connection.recv(33)
            connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for each in opened:
        each.close()


def test_d17_a_stale_address_is_named_with_its_variable():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(
        UsageError, match=rf"no Ray cluster answers at 127.0.0.1:{port} \(from \$RAY_ADDRESS\).*unset it"
    ):
        check_address(f"127.0.0.1:{port}", f"127.0.0.1:{port}", "$RAY_ADDRESS")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["silent", "web"])
def test_other_servers_are_no_clusters(server, answer):
    address = server(answer)

    with pytest.raises(UsageError, match=r"from --address\): (timed out|another kind of server answers)"):
        check_address(address, address, "--address")


def test_a_server_of_grpc_passes(server):
    address = server(bytes([0, 0, 6, 4, 0, 0, 0, 0, 0]))

    check_address(f"ray://{address}", address, "--address")


@pytest.mark.parametrize("address", ["nowhere", "host:", "host:x", ":1", "host:70000", "", "http://x"])
def test_what_is_no_address_says_so(address):
    with pytest.raises(UsageError, match="no Ray cluster answers"):
        check_address(address, address, "--address")


def test_a_missing_token_is_named(monkeypatch):
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    with pytest.raises(UsageError, match="a cluster with tokens needs RAY_AUTH_TOKEN"):
        check_address("x", "x", "--address")
