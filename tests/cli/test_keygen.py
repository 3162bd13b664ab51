"""``sigmgr keygen``: keys that work, in files that only their owner reads."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sigmgr.cli import keygen
from sigmgr.model.usersig import ecdsa, secret


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def here():
    return sorted(path.name for path in Path().iterdir())


def mode(path):
    return stat.S_IMODE(Path(path).stat().st_mode)


@pytest.mark.parametrize(
    ("more", "curve"),
    [([], "P-256"), (["--curve", "P-256"], "P-256"), (["--curve", "secp256k1"], "secp256k1")],
)
def test_a_v1_key_and_its_public_half(shell, more, curve):
    done = shell("keygen", "--format", "v1", "--out", "app.pem", *more)
    assert (done.status, done.out) == (0, "wrote app.pem and app.pem.pub\n")
    assert "Tencent console" in done.err
    signer = ecdsa.load_private(Path("app.pem").read_bytes())
    assert signer.curve == curve
    assert ecdsa.load_public(Path("app.pem.pub").read_bytes()).fingerprint == signer.fingerprint
    assert b"PRIVATE" not in Path("app.pem.pub").read_bytes()
    assert mode("app.pem") == 0o600
    assert here() == ["app.pem", "app.pem.pub"]


def test_a_v2_key(shell):
    done = shell("keygen", "--format", "v2", "--out", "secret.txt")
    assert (done.status, done.out) == (0, "wrote secret.txt\n")
    made = Path("secret.txt").read_text()
    assert secret.read(made.encode()).odd == ""
    assert made.strip() not in done.out + done.err
    assert mode("secret.txt") == 0o600
    assert here() == ["secret.txt"]


def test_a_wide_umask_opens_nothing(shell):
    before = os.umask(0)
    try:
        shell("keygen", "--format", "v1", "--out", "app.pem")
    finally:
        os.umask(before)
    assert (mode("app.pem"), mode("app.pem.pub")) == (0o600, 0o644)


@pytest.mark.parametrize("there", ["app.pem", "app.pem.pub"])
def test_a_key_that_exists_is_kept(shell, there):
    Path(there).write_text("precious")
    done = shell("keygen", "--format", "v1", "--out", "app.pem")
    assert (done.status, f"{there} exists already" in done.err) == (2, True)
    assert here() == [there]
    assert Path(there).read_text() == "precious"


@pytest.mark.parametrize("there", ["app.pem", "app.pem.pub"])
def test_a_key_that_comes_into_being_meanwhile_is_kept(shell, monkeypatch, there):
    monkeypatch.setattr(keygen, "_refuse_existing", lambda paths, force: None)
    Path(there).write_text("precious")
    done = shell("keygen", "--format", "v1", "--out", "app.pem")
    assert (done.status, f"{there} cannot be written: File exists" in done.err) == (2, True)
    assert Path(there).read_text() == "precious"
    assert not [name for name in here() if name.startswith(".")]


def test_force_replaces_and_narrows(shell):
    Path("app.pem").write_text("old")
    Path("app.pem").chmod(0o644)
    assert shell("keygen", "--format", "v1", "--out", "app.pem", "--force").status == 0
    assert ecdsa.load_private(Path("app.pem").read_bytes())
    assert mode("app.pem") == 0o600


@pytest.mark.parametrize(
    "out", [".", "/", "/dev/null", "no/such/place", "file/below", "n" * 300, "link"]
)
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_place_that_takes_no_key_is_reported(shell, out, force):
    Path("file").write_text("")
    Path("link").symlink_to("file")
    done = shell("keygen", "--format", "v2", "--out", out, *force)
    assert (done.status, "  code: usage\n" in done.err) == (2, True)
    assert here() == ["file", "link"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--format", "v1", "--curve", "P-384", "--out", "x"], "bad-key"),
        (["--format", "v2", "--curve", "P-256", "--out", "x"], "usage"),
        (["--format", "v3", "--out", "x"], "usage"),
        (["--out", "x"], "usage"),
        (["--format", "v1"], "usage"),
    ],
)
def test_a_wrong_command_line_makes_no_file(shell, arguments, code):
    done = shell("keygen", *arguments)
    assert (done.status, f"  code: {code}\n" in done.err) == (2, True)
    assert here() == []


def test_a_generated_key_signs(shell):
    shell("keygen", "--format", "v1", "--out", "app.pem")
    made = shell(
        "sig", "sign", "--format", "v1", "--sdkappid", 1, "--userid", "alice", "--key", "app.pem"
    )
    assert shell("sig", "verify", made.out.strip(), "--key", "app.pem.pub").status == 0
