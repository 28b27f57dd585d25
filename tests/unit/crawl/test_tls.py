"""Whose certificates a crawl believes, and for which hosts."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.gleaner.config import CrawlPolicy
from include.gleaner.crawl import guard
from include.gleaner.crawl.client import Client


def test_the_name_in_a_certificate_must_be_the_hosts(tmp_path: Path) -> None:
    """The certificate is good for nobody: neither is its name right nor does anybody vouch for it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            for _ in range(2):
                try:
                    context.wrap_socket(server.accept()[0], server_side=True).close()
                except OSError:
                    continue

        threading.Thread(target=serve, daemon=True).start()
        with Client(CrawlPolicy(local_hosts=(f"localhost:{port}", f"127.0.0.1:{port}"))) as client:
            assert client.fetch(f"https://localhost:{port}/").fault == "tls"
            assert client.fetch(f"https://127.0.0.1:{port}/").fault == "tls"


def test_only_who_is_vouched_for_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is right; somebody vouches for it, or not. What is believed is read once, for all connections."""
    cert, key = self_signed(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    asked: list[int] = []

    def where() -> str:
        asked.append(1)
        return str(cert)

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            while True:
                try:
                    plain = server.accept()[0]
                except OSError:
                    return
                with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as sock:
                    sock.recv(65_536)
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\nhello")

        threading.Thread(target=serve, daemon=True).start()
        policy = CrawlPolicy(local_hosts=(f"localhost:{port}", f"127.0.0.1:{port}"))
        with Client(policy) as client:
            assert client.fetch(f"https://localhost:{port}/").fault == "tls"
        monkeypatch.setattr(guard.certifi, "where", where)
        with Client(policy) as client:
            assert [client.fetch(f"https://localhost:{port}/").body for _ in range(3)] == [b"hello"] * 3
            assert client.fetch(f"https://127.0.0.1:{port}/").fault == "tls"  # not the name that is vouched for
    assert asked == [1]


def self_signed(folder: Path, host: str = "elsewhere.example") -> tuple[Path, Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file
