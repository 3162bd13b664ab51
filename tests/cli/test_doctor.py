"""``sigmgr doctor`` and the set-up that it judges: master key, its file, the keys, the place."""

from __future__ import annotations

import asyncio
import base64
import os
import stat

import pytest

from sigmgr import settings
from sigmgr.keys.keychain import generate
from sigmgr.keys.sealing import key_context
from sigmgr.model.sig import KeyState
from sigmgr.wiring.base import open_base
from tests.cli.kit import APP, SECRET, check_narrow, check_refusal
from tests.process.processes import new_master_key
from tests.servers import free_port

POSTGRES = "postgresql+psycopg://sigmgr:hunter2@127.0.0.1:1/sigs"


def findings(shell) -> list[tuple[str, str, str]]:
    done = shell("doctor", "--json")
    return [(one["verdict"], one["part"], one["text"]) for one in done.json]


def of(shell, part: str) -> list[str]:
    """Each finding of a part, as verdict and text."""
    return [f"{verdict} {text}" for verdict, named, text in findings(shell) if named == part]


def text_of(done) -> str:
    return " ".join((done.out + done.err).split())


# -- the master key ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("", "No master key is set"),
        ("YWJj", "has 3 bytes instead of 32"),
        ("no base64!", "is no base64"),
        ("ab" * 32, "is in hex"),
        pytest.param(f'"{new_master_key()}"', "a text in quotation marks", id="quoted"),
    ],
    # Named: the keys are new in every process, and test workers compare the names.
    ids=["none", "short", "no base64", "hex", "quoted"],
)
@pytest.mark.parametrize("migrated", [False, True])
def test_the_master_key_is_judged_whatever_the_database_is(
    bare, monkeypatch, tmp_path, text, phrase, migrated
):
    if migrated:
        assert bare("db", "upgrade").status == 0
    there = sorted(tmp_path.iterdir())
    monkeypatch.setenv("SIGMGR_MASTER_KEY", text)
    done = bare("doctor")
    assert done.status == 1
    check_narrow(done)
    assert phrase in text_of(done)
    assert (not text) or text not in done.out
    first, *rest = findings(bare)
    assert first[:2] == ("fail", "master key")
    assert ("fail", "master key") not in [one[:2] for one in rest]
    wanted = "ok revision" if migrated else "there is no database file"
    assert wanted in " ".join(f"{verdict} {text}" for verdict, _, text in rest)
    assert sorted(tmp_path.iterdir()) == there


def test_a_good_master_key_is_reported_to_be_there_before_there_is_a_database(bare, tmp_path):
    assert of(bare, "master key") == ["ok 32 bytes, out of master_key (SIGMGR_MASTER_KEY)"]
    assert list(tmp_path.iterdir()) == []
    assert bare("db", "upgrade").status == 0
    assert of(bare, "master key") == [
        "ok 32 bytes, out of master_key (SIGMGR_MASTER_KEY)",
        "ok opens every sealed key",
    ]


def test_a_master_key_that_is_set_twice_is_refused(ready, monkeypatch, tmp_path):
    file = tmp_path / "master.key"
    file.write_text(os.environ["SIGMGR_MASTER_KEY"])
    file.chmod(0o600)
    monkeypatch.setenv("SIGMGR_MASTER_KEY_FILE", str(file))
    check_refusal(ready("app", "list"), 3, "bad-settings", "is set twice", "Unset the one")
    assert of(ready, "master key")[0].startswith("fail the master key is set twice")
    (tmp_path / "two.toml").write_text(f'master_key_file = "{file}"\n')
    monkeypatch.delenv("SIGMGR_MASTER_KEY_FILE")
    done = ready("app", "list", "--config", tmp_path / "two.toml")
    check_refusal(done, 3, "bad-settings", "is set twice")
    # Empty is not set.
    monkeypatch.setenv("SIGMGR_MASTER_KEY", "")
    assert ready("app", "list", "--config", tmp_path / "two.toml").status == 0


@pytest.fixture
def key_file(ready, monkeypatch, tmp_path):
    """The master key in a file of mode 0600, the rest as in ``ready``."""
    file = tmp_path / "master.key"
    file.touch(0o600)
    file.write_text(os.environ["SIGMGR_MASTER_KEY"] + "\n")
    monkeypatch.setenv("SIGMGR_MASTER_KEY", "")
    monkeypatch.setenv("SIGMGR_MASTER_KEY_FILE", str(file))
    return file


OPEN_TO = {
    "nobody else": (0o600, False, False),
    "its owner to read": (0o400, False, False),
    "its group": (0o640, True, False),
    "its group to write": (0o660, True, True),
    "everybody": (0o644, True, True),
    "everybody to read": (0o444, True, True),
    "everybody else": (0o604, True, True),
}
#: A group may read what is root's: so secrets are mounted.
OWNERS = ["mine", "root's"] if os.geteuid() == 0 else ["mine"]


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("name", OPEN_TO)
def test_who_may_read_the_file_of_the_master_key(ready, monkeypatch, key_file, name, owner):
    mode, wide, wide_of_root = OPEN_TO[name]
    if owner == "mine" and os.geteuid() == 0:
        os.chown(key_file, 65534, 65534)
    key_file.chmod(mode)
    refused = wide_of_root if owner == "root's" else wide
    answer = f"others can read the master key file {key_file} (mode {mode:04o})"

    # On a laptop: a warning, and it works.
    done = ready("app", "list")
    assert done.status == 0
    assert (answer in " ".join(done.err.split())) is refused
    assert (f"warn {answer}" in of(ready, "master key")) is refused

    # Elsewhere it is refused before anything else is tried.
    monkeypatch.setenv("SIGMGR_DATABASE__URL", POSTGRES)
    done = ready("app", "list")
    if refused:
        check_refusal(done, 3, "bad-settings", answer, f"chmod 600 {key_file}")
        assert of(ready, "master key") == [f"fail {answer} (bad-settings)"]
    else:
        check_refusal(done, 3, "store-unavailable", "nothing listens")
    assert stat.S_IMODE(key_file.stat().st_mode) == mode


def test_a_master_key_from_a_pipe_and_with_what_editors_add(ready, monkeypatch, key_file, tmp_path):
    text = key_file.read_text()
    key_file.write_bytes(b"\xef\xbb\xbf" + text.strip().encode() + b"\r\n")
    assert ready("app", "list").status == 0
    key_file.write_bytes(text.encode("utf-16"))
    check_refusal(ready("app", "list"), 3, "bad-settings", "it is no ASCII text")
    reading, writing = os.pipe()
    os.write(writing, text.encode())
    os.close(writing)
    os.fchmod(reading, 0o666)
    monkeypatch.setenv("SIGMGR_MASTER_KEY_FILE", f"/dev/fd/{reading}")
    monkeypatch.setenv("SIGMGR_DATABASE__URL", POSTGRES)
    check_refusal(ready("app", "list"), 3, "store-unavailable", "nothing listens")
    os.close(reading)


# -- the keys ------------------------------------------------------------------------------


def sealed_long_ago(material: bytes, state: KeyState = KeyState.ACTIVE, mark: str = "0") -> int:
    """Put a key into the database as it was pasted, as earlier versions did. Its id."""

    async def case() -> int:
        async with open_base(settings.load()) as base:
            key = await base.catalog.add_key(
                APP,
                format="v2",
                curve="",
                fingerprint=mark * 16,
                state=state,
                seal=lambda key_id: base.master.seal(material, context=key_context(APP, key_id)),
                now=base.clock(),
            )
            return key.key_id

    return asyncio.run(case())


PEM = generate("v1")
WRONG = {
    "headerless": (b"".join(PEM.splitlines()[1:-1]), "a PKCS#8 private key without its BEGIN"),
    "base64 of a PEM": (base64.b64encode(PEM), "base64 of a PEM"),
    "quoted": (f'"{SECRET}"'.encode(), "a text in quotation marks"),
    "assignment": (f"SECRET={SECRET}".encode(), "an assignment, NAME=VALUE"),
}
ODD = {
    "60": (SECRET[:60].encode(), "60 hex digits instead of 64"),
    "upper case": (SECRET.upper().encode(), "upper case"),
    "short": (b"short", "5 characters"),
    "demo": (b"5bd2850f" + b"0" * 50 + b"b93b5e", "anybody can sign with it"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_key_that_is_another_thing_is_found(ready, name):
    material, phrase = WRONG[name]
    assert ready("app", "add", APP).status == 0
    sealed_long_ago(material)
    done = ready("doctor")
    assert done.status == 1
    check_narrow(done)
    assert f"fail apps app {APP}, key 1 (active): it is not a secret, but {phrase}" in text_of(done)
    assert f"sigmgr key add {APP} --file FILE --activate --yes" in text_of(done)
    assert material.decode()[10:20] not in done.out
    # It goes on signing meanwhile: users are not made worse off by an update.
    assert ready("issue", APP, "alice").status == 0


@pytest.mark.parametrize("name", ODD)
def test_an_odd_key_is_warned_of(ready, name):
    material, phrase = ODD[name]
    assert ready("app", "add", APP).status == 0
    sealed_long_ago(material)
    done = ready("doctor")
    assert done.status == 0
    check_narrow(done)
    assert f"warn apps app {APP}, key 1 (active): " in text_of(done)
    assert phrase in text_of(done)


def test_each_app_and_each_key_that_may_sign_is_reported(signing):
    other = APP + 1
    assert signing("app", "add", other).status == 0
    sealed_long_ago(b"prepared", KeyState.PREPARED, "1")
    sealed_long_ago(b"tainted", KeyState.PREPARED, "2")
    assert signing("key", "taint", APP, 3, "--yes").status == 0
    assert [one.split(":")[0] for one in of(signing, "apps")] == [
        f"ok app {APP} signs with key 1",
        f"warn app {APP}, key 2 (prepared)",
        f"fail app {other} has no active key",
    ]


def test_a_prepared_key_is_offered_where_none_is_active(ready):
    assert ready("app", "add", APP).status == 0
    assert ready("key", "add", APP, "--file", "-", stdin=SECRET).status == 0
    assert f"-> sigmgr key activate {APP} 1" in text_of(ready("doctor"))


# -- the place -----------------------------------------------------------------------------


def test_where_no_database_answers_is_reported_without_the_password(bare, monkeypatch):
    port = free_port()
    url = f"postgresql+psycopg://sigmgr:hunter2@127.0.0.1:{port}/sigs"
    monkeypatch.setenv("SIGMGR_DATABASE__URL", url)
    place = f"at 127.0.0.1:{port}, database sigs, user sigmgr"
    done = bare("app", "list")
    check_refusal(done, 3, "store-unavailable", "nothing listens", place, "Start PostgreSQL there")
    found = bare("doctor")
    assert found.status == 1
    check_narrow(found)
    assert place in text_of(found)
    assert "Start PostgreSQL there" in text_of(found)
    assert "hunter2" not in done.err + found.out + found.err
    monkeypatch.setenv("SIGMGR_DATABASE__URL", url.replace("127.0.0.1", "db.invalid"))
    check_refusal(bare("app", "list"), 3, "store-unavailable", "host name is not known", "db.inv")


# -- what is never shown -------------------------------------------------------------------


def check_hidden(done, secret: str, *words: str) -> None:
    """Nothing of the secret anywhere; the words everywhere."""
    text = done.out + done.err
    for at in range(len(secret) - 8):
        assert secret[at : at + 8] not in text
    for word in words:
        assert word in text_of(done)


def test_a_master_key_in_the_place_of_its_file_is_not_shown(ready, monkeypatch, tmp_path):
    key = os.environ["SIGMGR_MASTER_KEY"]
    phrase = "master_key_file (SIGMGR_MASTER_KEY_FILE) takes the name of a file"
    monkeypatch.setenv("SIGMGR_MASTER_KEY_FILE", key)
    for words in (["doctor"], ["doctor", "--json"], ["token", "list"]):
        # Twice, and in the wrong place.
        check_hidden(ready(*words), key, "is set twice")
    monkeypatch.setenv("SIGMGR_MASTER_KEY", "")
    for wrong in (key, SECRET, "smt_" + "Ab3dEf9" * 6, f"{tmp_path}/{SECRET}"):
        monkeypatch.setenv("SIGMGR_MASTER_KEY_FILE", wrong)
        for words in (["doctor"], ["doctor", "--json"], ["token", "list"]):
            check_hidden(ready(*words), wrong.rpartition("tmp")[2][-60:], phrase)


@pytest.mark.parametrize(
    "name",
    [
        "SIGMGR_MASTER_KEY", "SIGMGR_DATABASE__URL", "SIGMGR_REDIS__URL", "SIGMGR_HTTP__HOST",
        "SIGMGR_HTTP__PORT", "SIGMGR_HTTP__TRUSTED_PROXIES", "SIGMGR_HTTP__ALLOWED_ORIGINS",
        "SIGMGR_LOG__LEVEL", "SIGMGR_REDIS__SEAL", "SIGMGR_DATABASE__POOL_SIZE",
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["{}", "sqlite+aiosqlite:////no/{}/x.db", "redis://{}:1/0"])
def test_no_setting_is_repeated_where_it_is_a_credential(ready, monkeypatch, name, form):
    key = os.environ["SIGMGR_MASTER_KEY"]
    for secret in (SECRET, key, "smt_" + "Ab3dEf9" * 6):
        monkeypatch.setenv(name, form.format(secret))
        for words in (["doctor"], ["doctor", "--json"], ["app", "list"]):
            check_hidden(ready(*words), secret)


@pytest.mark.parametrize("words", [["doctor"], ["doctor", "--json"], ["token", "list"]])
@pytest.mark.parametrize(
    "address",
    [
        "postgresql+psycopg://sig:hunter2@Secret99@127.0.0.1:1/postgres",
        "postgresql+psycopg://sig:hunter2@Secret99@db.invalid/postgres",
        "postgresql+psycopg://sig:hunter2@Secret99/more@127.0.0.1:1/postgres",
    ],
)
def test_the_rest_of_a_password_with_an_at_sign_is_not_shown(ready, monkeypatch, words, address):
    monkeypatch.setenv("SIGMGR_DATABASE__URL", address)
    done = ready(*words)
    assert done.status
    check_hidden(done, "Secret99", "%40")
    check_hidden(done, "Secret99/more")
    assert "hunter2" not in done.out + done.err


def test_a_look_at_a_new_database_binds_it_to_no_master_key(ready, monkeypatch):
    right = os.environ["SIGMGR_MASTER_KEY"]
    monkeypatch.setenv("SIGMGR_MASTER_KEY", new_master_key())
    assert ready("doctor").status == 0
    assert ready("app", "list").status == 0
    monkeypatch.setenv("SIGMGR_MASTER_KEY", right)
    assert ready("token", "create", "--role", "ops").status == 0
    monkeypatch.setenv("SIGMGR_MASTER_KEY", new_master_key())
    check_refusal(ready("app", "list"), 3, "wrong-master-key")
