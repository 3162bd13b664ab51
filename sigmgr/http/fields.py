"""What is wrong with the fields of a request, in one sentence: which field, where it stands,
and which fields there are.

What this module does not do: repeat a value that was sent. A name that was sent is repeated as
``shown`` allows, for a secret may stand in its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from sigmgr.model.shown import shown

_WHERE = {
    "body": "in the body",
    "query": "in the query of the URL",
    "header": "in the headers",
    "path": "in the path",
}

#: What the framework's sentences begin with; ours begin with the field.
_SUBJECT = re.compile(r"^(Value error, |(Input|String|List|Value|Number) )")

Complaint = Mapping[str, Any]


def sentence(complaints: Sequence[Complaint], body: type[BaseModel] | None) -> str:
    """One sentence about the first complaint and those of the same field; first of all about
    a field that there is not, for a misspelt one is missing too. ``body`` is what the route
    takes as its body, if any."""
    unknown = (one for one in complaints if one["type"] == "extra_forbidden")
    first = next(unknown, complaints[0])
    part, *names = first["loc"]
    fields = _fields_of(body) if part == "body" else ""
    if first["type"] == "json_invalid":
        return f"the body is not valid JSON{fields and f'; it takes {fields}'}"
    if not names:
        what = "is missing" if first["type"] == "missing" else "is no JSON object"
        return f"the {part} {what}{fields and f'; it takes {fields}'}"
    where = _WHERE.get(part, "in the request")
    takes = f"; the {part} takes {fields}" if fields else ""
    if first["type"] == "extra_forbidden":
        return f"{shown(str(names[0]))} is no field of the {part}{takes}"
    field = "".join([str(names[0]), *(f"[{at}]" for at in names[1:] if isinstance(at, int))])
    if first["type"] == "missing":
        return f"{field} is missing {where}{takes}"
    same = [one for one in complaints if tuple(one["loc"][:2]) == tuple(first["loc"][:2])]
    wanted = dict.fromkeys(_SUBJECT.sub("", str(one["msg"])) for one in same)
    return f"{field} {where} {' or '.join(wanted).replace(' or should be', ' or')}"


def _fields_of(model: type[BaseModel] | None) -> str:
    """``usersig (needed), userid``; empty where the route takes no object."""
    if model is None:
        return ""
    names = [
        f"{name} (needed)" if field.is_required() else name
        for name, field in model.model_fields.items()
    ]
    return f"the fields {', '.join(names)}" if len(names) > 1 else f"the one field {names[0]}"
