"""The errors of sigmgr, in one tree. Those of a single module are there, below one of these.

SigmgrError                     code, text, advice
├── InputError                  the caller's input is wrong; repeating it will not help
│   ├── BadSdkAppId, BadUserId, BadRoom, BadPrivileges, BadTtl, BadTime, BadBatch,
│   │   BadRequest, BadReason
│   ├── BadKey, OddKey          a PEM or secret that cannot sign or verify, or is doubtful
│   └── BadSig                  carries a ``SigReason``: why a sig is not valid
├── DeniedError                 the caller is not allowed
│   ├── TokenMissing, TokenUnknown, RoleDenied, AppDenied
│   └── TicketInvalid, TicketExpired, TicketRevoked
├── NotFoundError
│   ├── AppUnknown, HolderUnknown, KeyUnknown, TokenNotFound, RouteUnknown
│   └── FeedOff                 the app has no feed
├── GoneError                   the events at a cursor are gone; carries where to ``begin``
│   └── CursorExpired, CursorUnknown
├── ConflictError
│   ├── AlreadyReplaced, NeverIssued, AppExists, KeyExists, KeyStateConflict
│   └── MaxHolders, MaxRooms
├── LimitedError                the caller's limit is reached; wait ``retry_after`` seconds
│   ├── TooManyStreams, TooManyWrong, TooManyNewHolders
├── RevokePause                 a user was just revoked; wait ``retry_after`` seconds
├── UnavailableError            a part is missing now; retry later
│   ├── NoSigningKey, KeyChanged, SigningFailed, AskedTooOften, ClockApart,
│   │   CacheUnavailable, Stopping
│   └── StoreUnavailable
│       └── ConnectionLost, CommitUnknown, PoolFull, StoreRefuses
└── SetupError                  the operator must act before sigmgr can run
    ├── BadSettings, WrongMasterKey, NotMigrated, AddressInUse, MasterKeyMissing

``code`` is stable and part of the contract; the class docstring is the default text; ``advice`` is
what to do next. Texts never contain a sig, key, token or ticket.

The classes stand in the files beside this one; use ``errors.Name``.
"""

from __future__ import annotations

from sigmgr.model.errors.base import *  # noqa: F403
from sigmgr.model.errors.denied import *  # noqa: F403
from sigmgr.model.errors.input import *  # noqa: F403
from sigmgr.model.errors.setup import *  # noqa: F403
from sigmgr.model.errors.state import *  # noqa: F403
from sigmgr.model.errors.unavailable import *  # noqa: F403
