"""Settings: one frozen tree from a TOML file and the environment.

Order, later wins: defaults, the file given with ``--config``, environment variables named
``SIGMGR_SECTION__NAME``. An unknown name is an error at every level, in the file and in the
environment, so that a misspelt setting is noticed.

Read by ``cli`` and ``wiring`` only; all other parts get plain values.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from sigmgr.model import errors, numbers
from sigmgr.model.addresses import network_of, origin_of
from sigmgr.model.reference import TOLERANCE

PREFIX = "SIGMGR_"


class Section(BaseModel):
    """Strict at every level: pydantic's ``forbid`` does not reach nested models by itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _whole(given: Any) -> Any:
    """Plain digits; in a file no number with a decimal point."""
    return _plain(given, str | int, numbers.whole)


def _decimal(given: Any) -> Any:
    return _plain(given, str | int | float, numbers.decimal)


def _plain(given: Any, kinds: Any, read: Callable[[Any], float]) -> float:
    if isinstance(given, bool) or not isinstance(given, kinds):
        raise ValueError("it is no number in plain digits")  # noqa: TRY004  as the library wants it
    return read(given)


Whole = Annotated[int, BeforeValidator(_whole)]
Decimal = Annotated[float, BeforeValidator(_decimal), Field(allow_inf_nan=False)]
Seconds = Annotated[Decimal, Field(gt=0)]


def _several(given: Any) -> Any:
    """The environment has no lists: there they are written with commas."""
    if isinstance(given, str):
        return tuple(part.strip() for part in given.split(",") if part.strip())
    return given


Several = Annotated[tuple[str, ...], BeforeValidator(_several)]


def _proxies(given: tuple[str, ...]) -> tuple[str, ...]:
    for one in given:
        network_of(one)
    return given


def _origins(given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(origin_of(one) for one in given)


class Database(Section):
    """``sqlite+aiosqlite:///FILE`` or ``postgresql+psycopg://USER:PASSWORD@HOST/NAME``."""

    url: SecretStr = SecretStr("sqlite+aiosqlite:///sigmgr.db")
    pool_size: Annotated[Whole, Field(ge=1, le=200)] = 10
    statement_timeout: Seconds = 30.0
    request_timeout: Seconds = 1.0

    @property
    def is_sqlite(self) -> bool:
        """SQLite serves one process on one machine."""
        return self.url.get_secret_value().startswith("sqlite")


class Redis(Section):
    """``memory://``, ``redis://``, ``rediss://``, ``redis+cluster://``, ``redis+sentinel://``.

    ``shards`` is part of the key layout: every process must use the same number. ``seal``:
    cached sigs are encrypted under the master key.
    """

    url: SecretStr = SecretStr("memory://")
    shards: Annotated[Whole, Field(ge=1, le=16384)] = 64
    seal: bool = True
    protocol: Annotated[Literal[2, 3], BeforeValidator(_whole)] = 3
    timeout: Seconds = 1.0
    pool_size: Annotated[Whole, Field(ge=1, le=1000)] = 50


class Http(Section):
    """Where this process listens, and the address at which clients reach streams.

    ``max_connections`` 0: as many as the descriptor limit leaves. ``trusted_proxies``: addresses
    and networks that may set a client's address and scheme. ``allowed_origins``: of pages that may
    use the clients' routes, or ``*``.
    """

    host: str = "127.0.0.1"
    port: Annotated[Whole, Field(ge=0, le=65535)] = 8080
    stream_url: str = ""
    near_ttl: Annotated[Whole, Field(ge=0, le=3600)] = 30
    near_entries: Annotated[Whole, Field(ge=0)] = 100_000
    graceful: Seconds = 5.0
    keep_alive: Annotated[Whole, Field(ge=1, le=3600)] = 60
    max_connections: Annotated[Whole, Field(ge=0)] = 0
    trusted_proxies: Annotated[Several, AfterValidator(_proxies)] = ()
    allowed_origins: Annotated[Several, AfterValidator(_origins)] = ()


class Gateway(Section):
    max_streams: Annotated[Whole, Field(ge=1)] = 50_000
    max_per_user: Annotated[Whole, Field(ge=1, le=1000)] = 20
    heartbeat: Annotated[Whole, Field(ge=1, le=300)] = 20
    drain: Seconds = 2.0


class Revocation(Section):
    """How long a process without SQL goes on with what it knows."""

    grace: Seconds = 60.0


class Clock(Section):
    """How far this machine's clock may be from the database's while it signs, and how long a clock
    that jumped must be steady before it is trusted."""

    tolerance: Annotated[Decimal, Field(ge=2, le=TOLERANCE)] = TOLERANCE
    accept: Seconds = 60.0


class Scheduler(Section):
    """How often the ticking jobs run, in seconds, and how much one takes at a time."""

    renew_every: Seconds = 1.0
    relay_every: Seconds = 0.2
    warn_every: Seconds = 60.0
    reconcile_every: Seconds = 10.0
    clean_up_every: Seconds = 600.0
    refresh_every: Seconds = 5.0
    seen_every: Seconds = 10.0
    look_every: Seconds = 1.0
    probe_every: Seconds = 10.0
    batch: Annotated[Whole, Field(ge=1, le=10_000)] = 1000
    lanes: Annotated[Whole, Field(ge=1, le=32)] = 2


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    as_json: bool = False


class Settings(Section):
    """The whole tree. The master key seals key material: 32 bytes in base64, given as
    ``master_key`` or in ``master_key_file``, in one of the two."""

    database: Database = Database()
    redis: Redis = Redis()
    http: Http = Http()
    gateway: Gateway = Gateway()
    revocation: Revocation = Revocation()
    clock: Clock = Clock()
    scheduler: Scheduler = Scheduler()
    log: Log = Log()
    master_key: SecretStr = SecretStr("")
    master_key_file: str = ""


def load(config: str | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read file and environment. Raises BadSettings with the name of what is wrong, never its
    value."""
    tree = _from_file(config) if config else {}
    _overlay(tree, _from_environment(os.environ if environ is None else environ))
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        found = "; ".join(_described(dict(one)) for one in error.errors())
        raise errors.BadSettings(f"settings are not valid: {found}") from None


#: Our texts for pydantic's error types; its other texts fit, except for their beginnings.
_FAULTS = {
    "extra_forbidden": "there is no such setting",
    "bool_parsing": "it is to be true or false",
    "bool_type": "it is to be true or false",
    "string_type": "it is to be a text",
    "tuple_type": "it is to be a list",
    "finite_number": "it is no number in plain digits",
}
_BEGINNINGS = {"Value error, ": "", "Input should be": "it is to be"}


def _described(found: Mapping[str, Any]) -> str:
    """One error, with the name of its setting and without its value."""
    name = ".".join(map(str, found["loc"]))
    if found["type"] in {"model_type", "model_attributes_type"}:
        return f"{name}: it is a section; its settings are named {name}.NAME"
    text = _FAULTS.get(found["type"], str(found["msg"]))
    for beginning, plain in _BEGINNINGS.items():
        text = text.replace(beginning, plain)
    return f"{name}: {text}"


def _from_file(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise errors.BadSettings(f"there is no settings file {path}") from None
    except OSError as error:
        raise errors.BadSettings(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise errors.BadSettings(f"{path} is not TOML: {error}") from None


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in environ.items():
        if not name.startswith(PREFIX) or name.startswith("SIGMGR_TEST_"):
            continue
        *sections, last = name.removeprefix(PREFIX).lower().split("__")
        branch = tree
        for at, section in enumerate(sections):
            branch = branch.setdefault(section, {})
            if not isinstance(branch, dict):
                raise _no_value(".".join(sections[: at + 1]))
        if isinstance(branch.get(last), dict):
            raise _no_value(".".join([*sections, last]))
        branch[last] = value
    return tree


def _no_value(name: str) -> errors.BadSettings:
    return errors.BadSettings(
        f"settings are not valid: {name}: it is given a value, and so is {name}.NAME; one is wrong"
    )


def _overlay(tree: dict[str, Any], upper: Mapping[str, Any]) -> None:
    for name, value in upper.items():
        below = tree.get(name)
        if isinstance(value, dict) and isinstance(below, dict):
            _overlay(below, value)
        else:
            tree[name] = value
