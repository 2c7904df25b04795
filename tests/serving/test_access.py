import pytest

from rt1_jax.serving import access
from rt1_jax.serving.access import AccessError, check_exposure, is_allowed, is_loopback


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        ("Api-Key abc", True),
        ("api-key abc", True),
        ("Bearer abc", True),
        ("Bearer  abc", True),
        ("Bearer abcd", False),
        ("Bearer ab", False),
        ("Bearer ABC", False),
        ("Bearer", False),
        ("Basic abc", False),
        ("abc", False),
        ("Bearer äbc", False),
        ("Bearer \udc80", False),
        ("", False),
        (None, False),
    ],
)
def test_only_the_token_opens(header, allowed):
    assert is_allowed("abc", header) is allowed
    assert is_allowed(None, header)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_token(host):
    assert is_loopback(host)
    check_exposure(host, None, allow_anonymous=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "robot.local", ""])
def test_other_addresses_need_a_token_or_permission(host):
    with pytest.raises(AccessError, match="--token-file"):
        check_exposure(host, None, allow_anonymous=False)
    check_exposure(host, "abc", allow_anonymous=False)
    check_exposure(host, None, allow_anonymous=True)


def test_tokens_come_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv(access.TOKEN_VARIABLE, raising=False)
    assert access.read_token(None) is None
    monkeypatch.setenv(access.TOKEN_VARIABLE, " from-environment\n")
    assert access.read_token(None) == "from-environment"
    path = tmp_path / "token"
    path.write_text("from-file\n")
    assert access.read_token(str(path)) == "from-file"


@pytest.mark.parametrize("content", ["", " \n", "two words", "two\nlines", "a\0b", "ä"])
def test_an_unusable_token_is_refused(tmp_path, content):
    path = tmp_path / "token"
    path.write_text(content)
    with pytest.raises(AccessError, match="token"):
        access.read_token(str(path))


def test_an_empty_environment_token_is_not_no_token(monkeypatch):
    monkeypatch.setenv(access.TOKEN_VARIABLE, "")
    with pytest.raises(AccessError, match=access.TOKEN_VARIABLE):
        access.read_token(None)


def test_tls_needs_both_files(tmp_path):
    assert access.tls_context(None, None) is None
    with pytest.raises(AccessError, match="go together"):
        access.tls_context("cert.pem", None)
    with pytest.raises(AccessError, match="go together"):
        access.tls_context(None, "key.pem")
    with pytest.raises(AccessError, match="cannot be used"):
        access.tls_context(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    (tmp_path / "cert.pem").write_text("not a certificate")
    with pytest.raises(AccessError, match="cannot be used"):
        access.tls_context(str(tmp_path / "cert.pem"), str(tmp_path / "cert.pem"))
