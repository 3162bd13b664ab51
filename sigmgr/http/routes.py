"""One declaration a route: who may call it, what it may raise, its document, its function.

    routes = Routes("ops", role=API)

    @routes.get("/v1/overview", FACTS, raises=[errors.StoreUnavailable])
    async def overview(services: Services) -> shapes.Overview:
        \"\"\"How many sigs there are, and how many are late.\"\"\"

``app`` serves the routes of every module that it names. Nothing else is to be done: the
credential, the limit of the body, the answer to every error, the limit of the wait and the
OpenAPI document follow from the declaration.

Rules:
1. A request goes through, in this order: who asks (401, 403), whether the path has the method
   (405), the body within its limits (413, 415), its fields (400), the function.
2. The function is of its module and takes the services first. The rest of its parameters are
   FastAPI's, which reads and documents them; those of the path are called as in ``paths``.
3. It is async and answers within :data:`WITHIN` seconds, or the caller gets a 503 and the work
   goes on by itself: a revocation that is under way is not given up.
4. A ``raw`` function is plain ASGI behind the services, for what is asked at every login and
   for streams. FastAPI documents it and does not run.
5. Whatever is raised becomes a problem document in one place.

What this module does not do: know a route, or what a credential is.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar, Unpack, cast

from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.responses import Response
from starlette.routing import Match
from starlette.routing import Route as StarletteRoute
from starlette.types import Message, Receive, Scope, Send

from sigmgr.flow.limits import Lane
from sigmgr.http import problems
from sigmgr.http.access import Access
from sigmgr.http.bodies import ClientGone, read_body, replay
from sigmgr.http.cors import Cors
from sigmgr.http.openapi import errors_of
from sigmgr.http.paths import PARAMETERS
from sigmgr.http.services import Services
from sigmgr.model import errors
from sigmgr.model.problem import BadContentType, BodyTooLarge, Header, MethodDenied
from sigmgr.push.sse import HEADERS_KEY

#: Seconds; see rule 3.
WITHIN = 1.8

Errors = Sequence[type[errors.SigmgrError]]
Function = TypeVar("Function", bound=Callable[..., Any])

_BODY_ERRORS: Errors = (BodyTooLarge, BadContentType)


class Options(TypedDict, total=False):
    """What a declaration may have besides.

    ``answers``: the model of the answer, where the function's annotation does not say it;
    ``status``: of a good answer; ``responses``: further good ones, as OpenAPI has them;
    ``body``: the model of the body that a raw function reads; ``tag``: whose route it
    is in the document, where not its module's; ``hidden``: it is in no document; ``raw``: see
    rule 4; ``direct``: raw, and once its caller is known it answers all by itself, so that
    nothing of ours lies in memory for as long as a stream is open; ``patient``: it may take
    longer than rule 3 allows and limits itself, or waits for nobody.
    """

    answers: Any
    status: int
    responses: Mapping[int | str, dict[str, Any]]
    body: type[BaseModel]
    tag: str
    hidden: bool
    raw: bool
    direct: bool
    patient: bool


@dataclass(frozen=True, slots=True)
class Declaration:
    """A route as it stands in its module; see :class:`Routes` for the fields."""

    method: str
    path: str
    access: Access
    raises: Errors
    function: Callable[..., Any]
    tag: str
    cross_origin: bool
    options: Options

    @property
    def takes_body(self) -> bool:
        return self.method not in ("GET", "OPTIONS")

    @property
    def limited(self) -> bool:
        """See rule 3 of the module."""
        return not (self.options.get("raw") or self.options.get("patient"))

    @property
    def problems(self) -> Errors:
        """All that it may answer other than well."""
        body = _BODY_ERRORS if self.takes_body else ()
        late = (errors.StoreUnavailable,) if self.limited else ()
        return [*self.raises, *self.access.raises, *body, *late]


class Routes:
    """The routes that one module declares, under one ``tag`` in the document. ``role``: of the
    processes that serve them, empty where all do; ``cross_origin``: pages of allowed origins
    may use them."""

    def __init__(self, tag: str, *, role: str = "", cross_origin: bool = False) -> None:
        self.role = role
        self._tag = tag
        self._cross_origin = cross_origin
        self._declared: list[Declaration] = []

    def __iter__(self) -> Iterator[Declaration]:
        return iter(self._declared)

    def get(
        self, path: str, access: Access, *, raises: Errors, **options: Unpack[Options]
    ) -> Callable[[Function], Function]:
        return self._add("GET", path, access, raises, options)

    def post(
        self, path: str, access: Access, *, raises: Errors, **options: Unpack[Options]
    ) -> Callable[[Function], Function]:
        return self._add("POST", path, access, raises, options)

    def options(
        self, path: str, access: Access, *, raises: Errors, **options: Unpack[Options]
    ) -> Callable[[Function], Function]:
        return self._add("OPTIONS", path, access, raises, options)

    def _add(
        self, method: str, path: str, access: Access, raises: Errors, options: Options
    ) -> Callable[[Function], Function]:
        def declare(function: Function) -> Function:
            if not options.get("raw") and not inspect.iscoroutinefunction(function):
                raise TypeError(f"{function.__name__} is to be async: threads have no limit here")
            self._declared.append(
                Declaration(
                    method, path, access, raises, function, self._tag, self._cross_origin, options
                )
            )
            return function

        return declare


class Route(StarletteRoute):
    """A declaration as it is served. ``allow``: the methods of its path; ``cors``: what pages
    of other origins are answered, None where they may not use it."""

    def __init__(
        self, declared: Declaration, services: Services, *, allow: str, cors: Cors | None
    ) -> None:
        function = _bound(declared, services)
        super().__init__(declared.path, function, name=declared.function.__name__)
        # An empty segment is called empty by its parser; it is not another route.
        self.path_regex = re.compile(self.path_regex.pattern.replace("[^/]+", "[^/]*"))
        self.methods = {declared.method}  # Starlette adds HEAD
        self.declared = declared
        self.cors = cors
        self._services = services
        self._allow = allow
        raw = declared.options.get("raw", False)
        self.documented = _documented(declared, _stub(declared) if raw else function)
        self.app = function if raw else AsyncExitStackMiddleware(self.documented.app)
        self._direct = declared.options.get("direct", False)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        found = super().matches(scope)
        if found[0] is not Match.NONE and not self.declared.access.concerns(scope):
            return Match.NONE, {}
        return found

    @property
    def body_model(self) -> type[BaseModel] | None:
        """What the body of a request is parsed as; None where it is not."""
        field = self.documented.body_field
        wanted = None if field is None else field.field_info.annotation
        for one in getattr(wanted, "__args__", (wanted,)):  # Model | None
            if isinstance(one, type) and issubclass(one, BaseModel):
                return one
        return None

    def handle(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """See rule 1 of the module."""
        if self.cors is not None:
            scope[HEADERS_KEY] = self.cors.headers(scope)
        try:
            waiting = self.declared.access.check(self._services, scope)
        except Exception as error:  # noqa: BLE001  # answered below, with all others
            waiting = _raised(error)
        if self._direct and waiting is None and scope["method"] == self.declared.method:
            return cast("Coroutine[Any, Any, None]", self.app(scope, receive, send))
        return self._answer(waiting, scope, receive, send)

    async def _answer(
        self, waiting: Awaitable[None] | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        watched = Watched(send, scope.get(HEADERS_KEY, ()))
        try:
            if waiting is not None:
                await waiting
            self._check_method(scope)
            if self.declared.takes_body:
                receive = replay(await read_body(scope, receive), receive)
            await self.app(scope, receive, watched)
        except ClientGone:
            pass
        except Exception as error:  # noqa: BLE001  # the one place that answers them
            answer = problems.answer(error, scope)
            if not watched.started:
                await answer(scope, receive, watched)

    def _check_method(self, scope: Scope) -> None:
        if scope["method"] != self.declared.method:
            raise MethodDenied(self._allow)


class Watched:
    """A ``send`` that adds headers to the answer, and knows whether it has begun."""

    def __init__(self, send: Send, headers: Sequence[Header] = ()) -> None:
        self._send = send
        self._headers = headers
        self.started = False

    async def __call__(self, message: Message) -> None:
        if self._headers and not self.started:
            message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
        self.started = True
        await self._send(message)


async def _raised(error: Exception) -> None:
    raise error


def _bound(declared: Declaration, services: Services) -> Callable[..., Any]:
    """The function with its services, and within its time."""
    function = declared.function
    bound = functools.partial(function, services)
    if declared.options.get("raw"):
        return bound
    signature = inspect.signature(function, eval_str=True)
    lane = Lane(function.__name__.replace("_", "-"))

    @functools.wraps(function)
    async def limited(**fields: Any) -> Any:
        work = bound(**fields)
        return await (lane.within(WITHIN, work) if declared.limited else work)

    # What FastAPI reads: the function's own, without the services.
    _, *rest = signature.parameters.values()
    limited.__signature__ = signature.replace(parameters=rest)  # type: ignore[attr-defined]
    return limited


def _stub(declared: Declaration) -> Callable[..., Any]:
    """For the document of a raw function: one with parameters, which FastAPI reads and never
    calls."""

    async def stub(**path: Any) -> None:
        pass

    functools.update_wrapper(stub, declared.function)
    fields = {name: PARAMETERS[name] for name in re.findall(r"{(\w+)}", declared.path)}
    if "body" in declared.options:
        fields["body"] = declared.options["body"]
    stub.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind)
            for name, kind in fields.items()
        ],
        return_annotation=Response,
    )
    return stub


def _documented(declared: Declaration, function: Callable[..., Any]) -> APIRoute:
    """As FastAPI parses and documents it. The first line of the function's docstring is the
    summary, the rest the description."""
    options, access = declared.options, declared.access
    summary, _, about = inspect.cleandoc(declared.function.__doc__ or "").partition("\n")
    security = [{access.scheme: [*access.roles]}] if access.scheme else []
    tags: list[Any] = [declared.tag, *([options["tag"]] if "tag" in options else [])]
    answers: dict[str, Any] = {}
    if "answers" in options:
        answers["response_model"] = options["answers"]
    elif options.get("raw"):
        answers["response_class"] = Response
    return APIRoute(
        declared.path,
        function,
        name=declared.function.__name__,
        methods=[declared.method],
        tags=tags,
        summary=summary.removesuffix("."),
        description=about.strip() or summary,
        status_code=options.get("status"),
        responses={**options.get("responses", {}), **errors_of(declared.problems)},
        include_in_schema=not options.get("hidden", False),
        openapi_extra={"security": security} if security else None,
        **answers,
    )
