"""The operator must act before sigmgr can run."""

from __future__ import annotations

from sigmgr.model.errors.base import SigmgrError


class SetupError(SigmgrError):
    """sigmgr cannot run as it is set up."""

    code = "setup"
    advice = "Run 'sigmgr doctor'."


class BadSettings(SetupError):
    """A setting is not valid."""

    code = "bad-settings"
    advice = "See config/ for examples; environment names are SIGMGR_SECTION__NAME."


class MasterKeyMissing(SetupError):
    """No master key is set."""

    code = "master-key-missing"
    advice = (
        "Set SIGMGR_MASTER_KEY or SIGMGR_MASTER_KEY_FILE to 32 random bytes in base64,"
        " for example from: head -c 32 /dev/urandom | base64"
    )


class WrongMasterKey(SetupError):
    """The master key is not the one that sealed this database's keys."""

    code = "wrong-master-key"
    advice = "Set the master key that was in use when the keys were added."


class NotMigrated(SetupError):
    """The database has not the schema that this version needs."""

    code = "not-migrated"
    advice = "Run 'sigmgr db upgrade'."


class AddressInUse(SetupError):
    """The address is in use by another process."""

    code = "address-in-use"
    advice = "Stop the other process or choose another port with --port."
