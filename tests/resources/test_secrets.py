"""Secrets by name, from the environment, `.env` and a key vault: a server with TLS that stands in for Azure's."""

import datetime as dt
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from azure.core.credentials import AccessToken
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from resources.secrets import SCOPE, KeyVault, SecretError, secret_of
from resources.settings import Settings

CANARY = "canary-4711"


class Identity:
    def get_token(self, *scopes: str, **_: object) -> AccessToken:
        assert scopes == (SCOPE,)
        return AccessToken("token", 2**31)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that it signed itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vault")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


@pytest.fixture
def vault(tmp_path) -> Iterator[tuple[str, Path]]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers = {"NIGHT-WARD": (200, f'{{"value": "{CANARY}"}}'), "FORBIDDEN": (403, CANARY)}
            assert self.headers["Authorization"] == "Bearer token"
            status, body = answers.get(self.path.removeprefix("/secrets/").partition("?")[0], (404, "{}"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Is silent."""

    files = certificate(tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}/", files[0]
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_vault_gives_a_secret_by_its_name_with_hyphens(vault):
    url, trusted = vault
    found = KeyVault(url, Identity(), ssl.create_default_context(cafile=str(trusted)))
    assert found.secret("NIGHT_WARD") == CANARY
    assert found.secret("DAY_WARD") is None


def test_a_vault_that_refuses_or_is_away_is_told_without_what_it_said(vault):
    url, trusted = vault
    found = KeyVault(url, Identity(), ssl.create_default_context(cafile=str(trusted)))
    with pytest.raises(SecretError, match=r"did not give the secret FORBIDDEN \(it answered 403\)") as refused:
        found.secret("FORBIDDEN")
    assert CANARY not in str(refused.value)
    with pytest.raises(SecretError, match=r"the secret X \(ConnectError\).*Key Vault Secrets User"):
        KeyVault("https://127.0.0.1:1", Identity()).secret("X")


def test_the_environment_comes_before_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("A_CHANNEL=of the file\nB_CHANNEL=also\n")
    monkeypatch.setenv("A_CHANNEL", "of the environment")
    settings = Settings(home=tmp_path)
    assert secret_of(settings, "A_CHANNEL") == "of the environment"
    assert secret_of(settings, "B_CHANNEL") == "also"
    assert secret_of(settings, "C_CHANNEL") is None
