"""Settings that are lists of addresses: from a file, from the environment, and refused."""

from __future__ import annotations

import pytest

from sigmgr import settings
from sigmgr.model import errors


def loaded(**environ: str) -> settings.Settings:
    return settings.load(None, {f"SIGMGR_{name}": value for name, value in environ.items()})


def test_the_environment_writes_lists_with_commas() -> None:
    http = loaded(
        HTTP__TRUSTED_PROXIES="10.0.0.0/8, ::1",
        HTTP__ALLOWED_ORIGINS="https://a.example,http://localhost:*",
    ).http
    assert http.trusted_proxies == ("10.0.0.0/8", "::1")
    assert http.allowed_origins == ("https://a.example", "http://localhost:*")
    assert loaded(HTTP__ALLOWED_ORIGINS="").http.allowed_origins == ()


def test_a_file_writes_lists(tmp_path) -> None:
    file = tmp_path / "sigmgr.toml"
    file.write_text('[http]\nallowed_origins = ["*"]\ntrusted_proxies = ["192.0.2.1"]\n')
    http = settings.load(str(file), {}).http
    assert (http.allowed_origins, http.trusted_proxies) == (("*",), ("192.0.2.1",))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ALLOWED_ORIGINS", "https://a.example/app", "write that"),
        ("ALLOWED_ORIGINS", "https://b.example,a.example", "https://app.example.com"),
        ("TRUSTED_PROXIES", "10.1.2.3/8", "write 10.0.0.0/8"),
        ("TRUSTED_PROXIES", "balancer", "such as 10.0.0.0/8"),
    ],
)
def test_what_is_refused_names_the_setting_and_what_to_write(name, value, said) -> None:
    with pytest.raises(errors.BadSettings) as refused:
        loaded(**{f"HTTP__{name}": value})
    assert f"http.{name.lower()}: " in refused.value.text
    assert said in refused.value.text
