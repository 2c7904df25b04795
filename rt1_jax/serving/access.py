"""Who may connect: tokens, TLS, and no listening to the world by accident."""

from __future__ import annotations

import hmac
import ipaddress
import os
import pathlib
import ssl

TOKEN_VARIABLE = "RT1_JAX_TOKEN"
_SCHEMES = ("api-key", "bearer")


class AccessError(ValueError):
    """Flags or files about access that do not fit."""


def read_token(path: str | None) -> str | None:
    """The token from a file, or else from the environment variable RT1_JAX_TOKEN; None without.

    Raises:
      AccessError: the file cannot be read, or there is no usable token in it.
    """
    if path is None:
        token = os.environ.get(TOKEN_VARIABLE)
        if token is None:
            return None
        where = TOKEN_VARIABLE
    else:
        where = path
        try:
            token = pathlib.Path(path).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise AccessError(f"--token-file: cannot read {path} ({error})") from error
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise AccessError(f"{where}: expected one word of printable ASCII characters as a token")
    return token


def is_allowed(token: str | None, authorization: str | None) -> bool:
    """Whether an Authorization header (`Api-Key TOKEN` or `Bearer TOKEN`) opens a server."""
    if token is None:
        return True
    scheme, _, given = (authorization or "").partition(" ")
    # Every byte is compared, whatever the first ones are: time tells nothing about the token.
    same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode())
    return same and scheme.lower() in _SCHEMES


def check_exposure(host: str, token: str | None, allow_anonymous: bool) -> None:
    """Refuses to listen beyond this computer without a token.

    Raises:
      AccessError: `host` is not a loopback address, and there is neither token nor permission.
    """
    if token is None and not allow_anonymous and not is_loopback(host):
        raise AccessError(
            f"--host={host} lets other computers drive the robot: give --token-file or "
            f"{TOKEN_VARIABLE}, or --allow-anonymous if the network is your own"
        )


def is_loopback(host: str) -> bool:
    """Whether only this computer reaches what listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def tls_context(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    """TLS from a certificate chain and its key, PEM files; None without both.

    Raises:
      AccessError: one of the two is missing or cannot be used.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise AccessError("--tls-cert and --tls-key go together: one of them is missing")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise AccessError(
            f"--tls-cert={certificate} and --tls-key={key} cannot be used ({error})"
        ) from error
    return context
