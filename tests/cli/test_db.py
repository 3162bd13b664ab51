"""``sigmgr db`` with more revisions than one: the way down leads through older ones only."""

from __future__ import annotations

import shutil
import sqlite3

import pytest

from sigmgr.store import migrate
from tests.cli.kit import Shell
from tests.cli.test_service import check_refusal
from tests.process.processes import new_master_key

NEXT = """revision = "9001"
down_revision = "{before}"


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The migrations of a version to come, which has one more."""
    folder = tmp_path / "alembic"
    shutil.copytree(migrate._location(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "9001_next.py").write_text(NEXT.format(before=migrate.heads()[0]))
    return folder


@pytest.fixture
def bare(shell, monkeypatch, tmp_path) -> Shell:
    monkeypatch.setenv("SIGMGR_DATABASE__URL", f"sqlite+aiosqlite:///{tmp_path}/sigmgr.db")
    monkeypatch.setenv("SIGMGR_MASTER_KEY", new_master_key())
    return shell


def tables(home) -> int:
    with sqlite3.connect(home / "sigmgr.db") as database:
        [[count]] = database.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'")
    database.close()
    return count


def test_the_way_down_leads_through_older_revisions_only(bare, folder, tmp_path, monkeypatch):
    [first] = migrate.heads()
    assert bare("db", "upgrade").status == 0
    monkeypatch.setattr(migrate, "_location", lambda: folder)
    full = tables(tmp_path)

    for words in (["9001"], ["9001", "--yes"]):
        done = bare("db", "downgrade", *words)
        check_refusal(done, 2, "bad-revision", f"at revision {first}", "db current")
    assert tables(tmp_path) == full
    assert bare("db", "current").status == 1

    assert bare("db", "upgrade").out == "applied: 9001\n"
    done = bare("db", "downgrade", first)
    assert (done.status, done.out) == (1, "")
    assert "takes back 9001, with" in done.err
    assert "--yes" in done.err
    assert bare("db", "downgrade", first, "--yes").out == "taken back: 9001\n"
    assert bare("db", "downgrade", first, "--yes").out == "nothing to take back\n"
    assert tables(tmp_path) == full


def test_only_an_upgrade_makes_a_database(bare, tmp_path):
    [first] = migrate.heads()
    done = bare("db", "current")
    assert (done.status, done.out.startswith("revision none")) == (1, True)
    for words in (["db", "downgrade", first], ["app", "list"], ["token", "list"], ["doctor"]):
        done = bare(*words)
        assert done.status in {1, 3}
        assert "there is no database file" in " ".join((done.out + done.err).split())
        assert "sigmgr db upgrade" in " ".join((done.out + done.err).split())
    assert list(tmp_path.iterdir()) == []
    assert bare("db", "upgrade").status == 0
    assert (tmp_path / "sigmgr.db").exists()


def test_an_empty_database_has_no_way_down(bare, tmp_path):
    [first] = migrate.heads()
    (tmp_path / "sigmgr.db").touch(0o600)
    check_refusal(bare("db", "downgrade", first, "--yes"), 2, "bad-revision", "no revision")
    done = bare("db", "downgrade", "base", "--yes")
    assert (done.status, done.out) == (0, "nothing to take back\n")


@pytest.mark.parametrize(
    "words",
    [("db", "upgrade"), ("db", "downgrade", "base", "--yes"), ("app", "list")],
    ids=" ".join,
)
def test_a_database_of_a_newer_version_is_left_alone(bare, folder, tmp_path, words):
    with pytest.MonkeyPatch.context() as newer:
        newer.setattr(migrate, "_location", lambda: folder)
        assert bare("db", "upgrade").status == 0
    full = tables(tmp_path)
    check_refusal(bare(*words), 3, "schema-unknown", "9001", "newer")
    assert tables(tmp_path) == full
