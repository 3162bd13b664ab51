"""The service commands on a SQLite file: what they print, refuse, and leave behind."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sigmgr.store.catalog import Catalog
from tests.cli.kit import APP, SECRET, check_narrow, check_refusal
from tests.process.processes import new_master_key

# -- db ------------------------------------------------------------------------------------


def test_the_database_goes_up_and_down(bare):
    assert bare("db", "current").status == 1
    done = bare("db", "upgrade")
    assert done.status == 0
    assert done.out.startswith("applied: 0001, 0002")
    assert bare("db", "upgrade").out == "the database is up to date\n"
    done = bare("db", "current")
    assert done.status == 0
    assert "revision 000" in done.out
    done = bare("db", "downgrade", "base")
    assert (done.status, done.out) == (1, "")
    assert "--yes" in done.err
    assert bare("db", "current").status == 0
    done = bare("db", "downgrade", "base", "--yes")
    assert done.status == 0
    assert done.out.startswith("taken back: ")
    assert bare("db", "current").status == 1


def test_a_revision_that_does_not_exist(ready):
    check_refusal(ready("db", "downgrade", "nonsense", "--yes"), 2, "usage", "nonsense")


def test_commands_say_that_the_database_is_not_migrated(bare):
    for words in (["app", "list"], ["issue", APP, "alice"], ["token", "list"]):
        check_refusal(bare(*words), 3, "not-migrated", "db upgrade")


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("SIGMGR_MASTER_KEY", "", "master-key-missing"),
        ("SIGMGR_MASTER_KEY", "not base64!", "bad-settings"),
        ("SIGMGR_MASTER_KEY", "YWJj", "bad-settings"),
        ("SIGMGR_DATABASE__URL", "nonsense", "bad-settings"),
        (
            "SIGMGR_DATABASE__URL",
            "sqlite+aiosqlite:////no/such/directory/x.db",
            "store-unavailable",
        ),
        ("SIGMGR_DATABASE__URL", "sqlite+aiosqlite:///text", "bad-settings"),
        ("SIGMGR_DATABSE__URL", "x", "bad-settings"),
    ],
)
def test_settings_that_cannot_work(ready, monkeypatch, tmp_path, name, value, code):
    (tmp_path / "text").write_text("this is no database, and stays what it is" * 20)
    monkeypatch.setenv(name, value)
    check_refusal(ready("app", "list"), 3, code)


def test_settings_are_reported_by_their_names(ready, monkeypatch, tmp_path):
    monkeypatch.setenv("SIGMGR_MASTER_KEY", "")
    monkeypatch.setenv("SIGMGR_MASTER_KEY_FILE", str(tmp_path / "none"))
    check_refusal(ready("app", "list"), 3, "bad-settings", "none cannot be read: No such file")
    (tmp_path / "wrong.toml").write_text("[http]\nprot = 80\n")
    done = ready("app", "list", "--config", tmp_path / "wrong.toml")
    check_refusal(done, 3, "bad-settings", "http.prot: there is no such setting")
    check_refusal(ready("app", "list", "--config", tmp_path), 3, "bad-settings", "Is a directory")


def test_another_master_key(signing, monkeypatch):
    monkeypatch.setenv("SIGMGR_MASTER_KEY", new_master_key())
    for words in (["app", "list"], ["issue", APP, "alice"]):
        check_refusal(signing(*words), 3, "wrong-master-key")


# -- app -----------------------------------------------------------------------------------


def test_a_pause_leaves_the_policy_as_another_admin_has_just_made_it(ready, monkeypatch):
    assert ready("app", "add", APP).status == 0
    set_app = Catalog.set_app

    async def after_another(self, sdkappid, **changes):
        await set_app(self, sdkappid, policy=lambda held: replace(held, ttl=86400))
        return await set_app(self, sdkappid, **changes)

    monkeypatch.setattr(Catalog, "set_app", after_another)
    assert ready("app", "set", APP, "--pause", "--json").json["ttl"] == 86400


def test_an_app_from_add_to_remove(ready):
    done = ready("app", "add", APP, "--name", "shop", "--ttl", "30d", "--policy", "idle_after=0")
    assert done.status == 0
    assert f"sdkappid  {APP}" in done.out
    assert "Next: sigmgr key add" in done.err
    check_narrow(done)
    shown = ready("app", "show", APP, "--json").json
    assert shown["name"] == "shop"
    assert shown["policy"] == {"ttl": 30 * 86400, "idle_after": 0}
    assert [one["sdkappid"] for one in ready("app", "list", "--json").json] == [APP]
    assert "shop" in ready("app", "list").out

    counts = ("--policy", "max_holders=3000", "--policy", "new_holders_per_second=0.5")
    limited = ready("app", "set", APP, *counts, "--json").json["policy"]
    assert (limited["max_holders"], limited["new_holders_per_second"]) == (3000, 0.5)

    changed = ready("app", "set", APP, "--ttl", "12h", "--pause", "--json").json
    assert (changed["ttl"], changed["paused"], changed["name"]) == (43200, True, "shop")
    assert ready("app", "set", APP, "--resume", "--json").json["paused"] is False

    done = ready("app", "remove", APP)
    assert (done.status, done.out) == (1, "")
    assert "--yes" in done.err
    assert ready("app", "remove", APP, "--yes").status == 0
    done = ready("app", "list")
    assert (done.status, done.out) == (0, "")
    assert "sigmgr app add" in done.err


def test_an_app_has_a_feed_or_none(ready):
    ready("app", "add", APP)
    assert ready("app", "show", APP, "--json").json["feed"] is None
    feed = ready("app", "set", APP, "--feed", "on", "--json").json["feed"]
    assert len(feed) == 32
    assert ready("app", "set", APP, "--feed", "on", "--json").json["feed"] == feed
    assert f"on ({feed})" in ready("app", "show", APP).out
    assert ready("app", "set", APP, "--name", "x", "--json").json["feed"] == feed
    held = ready("app", "set", APP, "--feed", "off", "--name", "y")
    assert (held.status, held.out) == (1, "")
    assert "lose the rest" in held.err
    assert "Nothing was changed. Add --yes" in held.err
    assert ready("app", "show", APP, "--json").json["feed"] == feed
    assert ready("app", "show", APP, "--json").json["name"] == "x"
    assert ready("app", "set", APP, "--feed", "off", "--yes", "--json").json["feed"] is None
    assert ready("app", "set", APP, "--feed", "off").status == 0, "there is none to end"
    assert ready("app", "set", APP, "--feed", "on", "--json").json["feed"] not in {None, feed}
    check_refusal(ready("app", "set", APP, "--feed", "maybe"), 2, "usage", "maybe")
    check_refusal(ready("app", "set", 7, "--feed", "on"), 3, "app-unknown")


@pytest.mark.parametrize(
    ("words", "code", "answer"),
    [
        ([0], "bad-sdkappid", "outside"),
        ([2**32], "bad-sdkappid", "outside"),
        ([APP, "--ttl", "soon"], "usage", "'soon' is no duration"),
        ([APP, "--ttl", "1.5h"], "usage", "no duration"),
        ([APP, "--ttl", "9s"], "bad-ttl", "outside"),
        ([APP, "--ttl", "90"], "usage", "is it 90 seconds or 90 days? code: usage"),
        ([APP, "--ttl", "90"], "usage", "Write 90s or 90d"),
        ([APP, "--room-ttl", "6"], "usage", "is it 6 seconds or 6 days?"),
        ([APP, "--policy", "splay=300"], "usage", "is it 300 seconds or 300 days?"),
        ([APP, "--policy", "backoff=1m,120"], "usage", "is it 120 seconds or 120 days?"),
        ([APP, "--ttl", "\u0669d"], "usage", "no duration"),
        ([APP, "--ttl", "9999999d"], "bad-ttl", "outside"),
        ([APP, "--policy", "tll=5"], "usage", "no policy setting"),
        ([APP, "--policy", "idle_after"], "usage", "no policy setting"),
        ([APP, "--policy", "renew_from=x"], "usage", "no number"),
        ([APP, "--policy", "max_holders=10d"], "usage", "no number"),
        ([APP, "--policy", "max_rooms=-1"], "usage", "not negative"),
        ([APP, "--policy", "new_holders_per_second=-1"], "usage", "not negative"),
        ([APP, "--policy", "new_holders_per_second=nan"], "usage", "plain digits"),
        ([APP, "--policy", "renew_from=nan"], "usage", "plain digits"),
        ([APP, "--policy", "renew_from=0.9"], "usage", "renewal window"),
        ([APP, "--policy", "ladder=1d,soon"], "usage", "no duration"),
    ],
)
def test_an_app_that_cannot_be_added(ready, words, code, answer):
    check_refusal(ready("app", "add", *words), 2, code, answer)
    assert ready("app", "list", "--json").json == []


def test_an_app_twice(ready):
    assert ready("app", "add", APP).status == 0
    check_refusal(ready("app", "add", APP), 3, "app-exists", "app set")


@pytest.mark.parametrize(
    "words",
    [
        ["app", "show", "7"],
        ["app", "set", "7", "--pause"],
        ["app", "remove", "7", "--yes"],
        ["key", "list", "7"],
        ["key", "add", "7", "--file", "-"],
        ["key", "generate", "7", "--format", "v2"],
        ["token", "create", "--role", "backend", "--app", "7"],
        ["issue", "7", "alice"],
        ["show", "7", "alice"],
        ["reissue", "7", "alice"],
        ["revoke", "7", "alice", "--yes"],
        # What is missing is reported before it is asked for.
        ["revoke", "7", "alice"],
        ["key", "taint", "7", "1"],
        ["key", "revoke", "7", "1"],
        ["app", "remove", "7"],
    ],
    ids=" ".join,
)
def test_an_app_that_is_not_known(ready, words):
    check_refusal(ready(*words, stdin=SECRET), 3, "app-unknown", "sigmgr app add")


def test_an_app_with_holders_is_removed_by_force_only(signing):
    assert signing("issue", APP, "alice").status == 0
    check_refusal(signing("app", "remove", APP, "--yes"), 3, "conflict", "--force")
    assert signing("app", "remove", APP, "--yes", "--force").status == 0


# -- token ---------------------------------------------------------------------------------


def test_tokens(ready):
    ready("app", "add", APP)
    done = ready("token", "create", "--role", "backend", "--app", APP, "--name", "shop")
    assert done.status == 0
    assert done.out.startswith("smt_")
    assert done.out.strip() not in done.err
    check_narrow(done)
    made = ready("token", "create", "--role", "admin", "--json").json
    assert made["role"] == "admin"
    listed = ready("token", "list")
    assert made["token"] not in listed.out
    assert f"app {APP}" in listed.out
    check_narrow(listed)
    ended = ready("token", "revoke", made["token_id"], "--json").json
    assert ended["revoked_at"] > 0
    again = ready("token", "revoke", made["token_id"], "--json").json
    assert again["revoked_at"] == ended["revoked_at"]
    check_narrow(ready("token", "list"))
    check_refusal(ready("token", "revoke", 999), 3, "token-not-found", "token list")
    assert ready("token", "create", "--role", "king").status == 2
    assert ready("token", "create", "--role", "backend", "--app", -1).status == 2


def test_no_tokens_yet_is_reported(ready):
    done = ready("token", "list")
    assert (done.status, done.out) == (0, "")
    assert "sigmgr token create" in done.err


# -- issue, show, reissue, revoke ----------------------------------------------------------


def test_a_sig_from_issue_to_revoke(signing, tmp_path):
    done = signing("issue", APP, "alice")
    assert done.status == 0
    sig = done.out.strip()
    assert " " not in sig
    check_narrow(done)
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    verified = signing("sig", "verify", sig, "--key", secret, "--userid", "alice")
    assert verified.status == 0

    first = signing("issue", APP, "alice", "--json").json
    assert first["usersig"] == sig
    shown = signing("show", APP, "alice")
    assert sig not in shown.out
    assert "good for " in shown.out
    check_narrow(shown)
    [record] = signing("show", APP, "alice", "--json").json
    assert record["issued_at"] == first["issued_at"]
    assert sig not in json.dumps(record)

    wrong = signing("reissue", APP, "alice", "--replaces", first["issued_at"] - 1)
    check_refusal(wrong, 3, "already-replaced", "sigmgr issue")
    done = signing("revoke", APP, "alice")
    assert (done.status, done.out) == (1, "")
    assert "--yes" in done.err
    assert signing("issue", APP, "alice", "--json").json["usersig"] == sig
    done = signing("revoke", APP, "alice", "--yes")
    assert done.status == 0
    check_narrow(done)
    check_refusal(signing("issue", APP, "alice"), 3, "revoke-pause", "Try again in a few seconds")
    assert "revoked" in signing("show", APP, "alice").out


@pytest.mark.parametrize("verb", ["issue", "reissue"])
def test_no_command_hands_out_what_was_revoked_for_all_users(signing, verb):
    assert signing("issue", APP, "alice").status == 0
    assert signing("revoke", APP, "--all-users", "--yes").status == 0
    assert "state  revoked " in signing("show", APP, "alice").out
    check_refusal(signing(verb, APP, "alice"), 3, "revoke-pause", "Try again in a few seconds")


def test_a_reissue_is_newer(signing, monkeypatch):
    first = signing("issue", APP, "alice", "--json").json
    moment = first["issued_at"] + 60
    # The service's clock only: the rest of the process goes on in its own time.
    monkeypatch.setattr("sigmgr.wiring.reference_clock.wall_seconds", lambda: float(moment))
    second = signing(
        "reissue",
        APP,
        "alice",
        "--replaces",
        first["issued_at"],
        "--reason",
        "KeyRotated",
        "--json",
    ).json
    assert second["issued_at"] == moment
    assert second["reason"] == "KeyRotated"
    assert second["expires_at"] > first["expires_at"]


def test_admin_and_room_keys(signing):
    assert signing("issue", APP, "boss", "--admin", "--json").json["kind"] == "admin"
    room = signing("issue", APP, "alice", "--room", 7, "--privileges", 42, "--json").json
    assert (room["kind"], room["scope"]) == ("room", "id:7")
    named = signing("issue", APP, "alice", "--room-name", "lobby", "--json").json
    assert (named["kind"], named["scope"]) == ("room", "name:lobby")
    shown = signing("show", APP, "alice")
    assert shown.status == 0
    check_narrow(shown)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["x" * 33], "bad-userid"),
        (["ä"], "bad-userid"),
        ([""], "bad-userid"),
        (["a\nb"], "bad-userid"),
        (["alice", "--room", 0], "bad-room"),
        (["alice", "--room", 2**32], "bad-room"),
        (["alice", "--room-name", ""], "bad-room"),
        (["alice", "--room-name", "ä"], "bad-room"),
        (["alice", "--room", 1, "--room-name", "a"], "bad-room"),
        (["alice", "--room", 1, "--privileges", 256], "bad-privileges"),
        (["alice", "--room", 1, "--privileges", 0], "bad-privileges"),
        (["alice", "--room", 1, "--admin"], "usage"),
        (["alice", "--privileges", 42], "usage"),
    ],
)
def test_what_cannot_be_issued(signing, words, code):
    check_refusal(signing("issue", APP, *words), 2, code)


@pytest.mark.parametrize("verb", ["show", "reissue", "revoke"])
def test_user_ids_are_checked_everywhere(signing, verb):
    check_refusal(signing(verb, APP, "x" * 33), 2, "bad-userid", "33 bytes")


def test_a_user_that_was_never_issued(signing):
    check_refusal(signing("show", APP, "nobody"), 3, "holder-unknown")


def test_a_reissue_of_nobody_takes_a_word_more(signing):
    check_refusal(signing("reissue", APP, "nobody"), 3, "holder-unknown", "--create")
    check_refusal(signing("show", APP, "nobody"), 3, "holder-unknown")
    made = signing("reissue", APP, "nobody", "--create", "--json")
    assert (made.status, made.json["reason"]) == (0, "Missing")
    check_narrow(signing("reissue", APP, "nobody"))


def test_an_app_without_a_key(ready):
    ready("app", "add", APP)
    check_refusal(ready("issue", APP, "alice"), 3, "no-signing-key", "key add")


def test_a_user_without_a_sig(signing):
    check_refusal(signing("show", APP, "nobody"), 3, "holder-unknown", "sigmgr issue")


def test_a_tainted_key_signs_nothing_more(signing):
    signing("issue", APP, "alice")
    [key] = signing("key", "list", APP, "--json").json
    assert signing("key", "taint", APP, key["key_id"], "--yes", "--force").status == 0
    check_refusal(signing("issue", APP, "bob"), 3, "no-signing-key")


# -- doctor --------------------------------------------------------------------------------


def test_the_doctor_finds_nothing(signing):
    done = signing("doctor")
    assert done.status == 0
    assert "fail" not in done.out
    check_narrow(done)
    found = signing("doctor", "--json").json
    assert {finding["part"] for finding in found} >= {"database", "schema", "apps", "redis"}


def test_the_doctor_names_a_cause_once(signing, monkeypatch, tmp_path):
    monkeypatch.setenv("SIGMGR_DATABASE__URL", f"sqlite+aiosqlite:///{tmp_path}/no/x.db")
    done = signing("doctor")
    assert done.status == 1
    assert done.out.count("store-unavailable") == 1
    assert "SIGMGR_DATABASE__URL" in done.out
    assert "sigmgr doctor" not in done.out
    assert "redis" in done.out
    check_narrow(done)


def test_the_doctor_names_what_is_missing(bare, monkeypatch):
    done = bare("doctor")
    assert done.status == 1
    assert "not-migrated" in done.out
    assert "sigmgr db upgrade" in done.out
    check_narrow(done)
    bare("db", "upgrade")
    assert "sigmgr app add" in bare("doctor").out
    bare("app", "add", APP)
    done = bare("doctor")
    assert done.status == 1
    assert f"app {APP} has no active key" in done.out
    check_narrow(done)
    monkeypatch.setenv("SIGMGR_REDIS__URL", "redis://127.0.0.1:1/0")
    done = bare("doctor")
    assert "cache-unavailable" in done.out
    check_narrow(done)
    monkeypatch.setenv("SIGMGR_MASTER_KEY", "")
    done = bare("doctor")
    assert done.status == 1
    assert "master-key-missing" in done.out
    check_narrow(done)


# -- help ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    ["db upgrade", "db current", "db downgrade", "app add", "app list", "app show", "app set",
     "app remove", "key add", "key generate", "key list", "key activate", "key taint",
     "key revoke", "token create", "token list", "token revoke", "issue", "show", "reissue",
     "revoke", "doctor", "serve"],
)  # fmt: skip
def test_help_fits_and_names_every_option(shell, words):
    done = shell(*words.split(), "--help")
    assert done.status == 0
    check_narrow(done)
    assert "--config" in done.out
