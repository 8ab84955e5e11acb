"""A Redis that speaks TLS on a port of its own, with a certificate made for it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers.ports import free_port
from tests.support.servers.redis_server import RedisServer, available_servers


@contextmanager
def tls_server(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield its URL, and the certificate by which it is trusted."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    if "redis" not in available_servers():
        pytest.skip("only Debian's server speaks TLS")
    certificate, port = folder / "cert.pem", free_port()
    made = subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-keyout", folder / "key.pem", "-out", certificate,
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ],
        capture_output=True,
        check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    conf: dict[str, Any] = {
        "tls_port": port,
        "tls_cert_file": certificate,
        "tls_key_file": folder / "key.pem",
        "tls_ca_cert_file": certificate,
        "tls_auth_clients": "no",
    }
    with RedisServer(available_servers()["redis"], **conf):
        yield f"rediss://localhost:{port}/0", certificate
