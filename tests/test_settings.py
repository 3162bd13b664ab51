"""Settings: numbers, lists of addresses, sections; from a file, from the environment; refused."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

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
    ("name", "value", "answer"),
    [
        ("ALLOWED_ORIGINS", "https://a.example/app", "write that"),
        ("ALLOWED_ORIGINS", "https://b.example,a.example", "https://app.example.com"),
        ("TRUSTED_PROXIES", "10.1.2.3/8", "write 10.0.0.0/8"),
        ("TRUSTED_PROXIES", "balancer", "such as 10.0.0.0/8"),
    ],
)
def test_what_is_refused_names_the_setting_and_what_to_write(name, value, answer) -> None:
    with pytest.raises(errors.BadSettings) as refused:
        loaded(**{f"HTTP__{name}": value})
    assert f"http.{name.lower()}: " in refused.value.text
    assert answer in refused.value.text


#: What libraries take for numbers.
ODD_NUMBERS = [
    "1.0",
    "1_0",
    "+1",
    "01",
    " 1",
    "1 ",
    "\u0663",
    "1e1",
    "0x1",
    "inf",
    "nan",
    "",
    "ten",
]


def of_kind(*kinds: type, tree: type[BaseModel] = settings.Settings, above: str = "") -> list[str]:
    """The settings of such types, as the environment names them."""
    found = []
    for name, field in tree.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += of_kind(*kinds, tree=field.annotation, above=f"{name.upper()}__")
        elif type(field.default) in kinds:
            found.append(above + name.upper())
    return found


@pytest.mark.parametrize("name", of_kind(int))
@pytest.mark.parametrize("value", ODD_NUMBERS)
def test_a_whole_number_is_plain_digits(name, value) -> None:
    with pytest.raises(errors.BadSettings, match="it is no number in plain digits"):
        loaded(**{name: value})


@pytest.mark.parametrize("name", of_kind(float))
@pytest.mark.parametrize("value", [*ODD_NUMBERS[1:], ".5", "5."])
def test_seconds_are_plain_digits_with_a_point_perhaps(name, value) -> None:
    with pytest.raises(errors.BadSettings, match="it is no number in plain digits"):
        loaded(**{name: value})


@pytest.mark.parametrize("name", of_kind(int, float))
def test_a_file_does_not_write_numbers_as_something_else(tmp_path, name) -> None:
    section, _, last = name.lower().partition("__")
    file = tmp_path / "sigmgr.toml"
    for value in ("true", "[1]", "inf", "nan", '"1_0"', *(["2.0"] if name in of_kind(int) else [])):
        file.write_text(f"[{section}]\n{last} = {value}\n")
        with pytest.raises(errors.BadSettings):
            settings.load(str(file), {})


def test_numbers_come_from_the_environment() -> None:
    tree = loaded(
        HTTP__PORT="1", REDIS__PROTOCOL="2", HTTP__GRACEFUL="0.5", CLOCK__TOLERANCE="3",
        DATABASE__POOL_SIZE="7",
    )  # fmt: skip
    assert (tree.http.port, tree.redis.protocol, tree.database.pool_size) == (1, 2, 7)
    assert (tree.http.graceful, tree.clock.tolerance) == (0.5, 3)


@pytest.mark.parametrize("name", of_kind(int, float, str, bool, tuple))
@pytest.mark.parametrize("value", ["x", "-1", "999999999999", "\u0663", "", "section"])
def test_a_fault_is_reported_in_our_own_words(name, value) -> None:
    given = {f"{name}__X": "1"} if value == "section" else {name: value}
    try:
        loaded(**given)
    except errors.BadSettings as error:
        reported = error.text.removeprefix("settings are not valid: ")
        assert reported.startswith(f"{name.lower().replace('__', '.')}: ")
        for word in ("Input", "Value error", "valid integer", "parse", "instance", "boolean"):
            assert word not in reported
    else:
        assert value != "section"


@pytest.mark.parametrize(
    ("name", "value", "answer"),
    [
        ("HTTP__PORT", "70000", "it is to be less than or equal to 65535"),
        ("HTTP__GRACEFUL", "0", "it is to be greater than 0"),
        ("REDIS__PROTOCOL", "4", "it is to be 2 or 3"),
        ("REDIS__SEAL", "perhaps", "it is to be true or false"),
        ("LOG__LEVEL", "loud", "it is to be 'debug', 'info', 'warning' or 'error'"),
        ("HTTP", "x", "it is a section; its settings are named http.NAME"),
        ("HTTP__HOST__X", "1", "it is to be a text"),
        ("NOPE", "1", "there is no such setting"),
    ],
)
def test_what_is_to_be_written_is_reported(name, value, answer) -> None:
    with pytest.raises(errors.BadSettings) as refused:
        loaded(**{name: value})
    assert refused.value.text.endswith(f": {answer}")


def test_a_section_that_is_a_value_too_is_reported() -> None:
    for names in (("HTTP", "HTTP__PORT"), ("HTTP__PORT", "HTTP")):
        with pytest.raises(errors.BadSettings, match="http: it is given a value, and so is http"):
            loaded(**dict.fromkeys(names, "1"))
