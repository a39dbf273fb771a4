"""A certificate for `localhost`, made when it is needed and good for two days."""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import subprocess
from pathlib import Path


class NoCertificate(Exception):
    """Neither the openssl command nor the cryptography package is here."""


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Write `key.pem` and `certificate.pem`, self-signed, for localhost and 127.0.0.1."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    if openssl := shutil.which("openssl"):
        _by_command(openssl, key, certificate)
    else:
        _by_package(key, certificate)
    return key, certificate


def _by_command(openssl: str, key: Path, certificate: Path) -> None:
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    options += " -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    subprocess.run(
        [openssl, *options.split(), "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )


def _by_package(key: Path, certificate: Path) -> None:
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise NoCertificate("needs the openssl command or the cryptography package") from None
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), address]), False)
        .sign(secret, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key.write_bytes(secret.private_bytes(pem, *plain))
    certificate.write_bytes(made.public_bytes(pem))
