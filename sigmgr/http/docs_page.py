"""``/docs``: the OpenAPI document as one readable page that works offline.

Rendered on the server, with its style inside and no script, so that it needs nothing from
another host and may forbid everything by its content security policy. Routes are grouped
by who uses them; each shows an example request and answer and its error codes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from html import escape
from typing import Any

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

_GROUPS = (
    ("backend", "Backends", "Your server asks for sigs, with a token of role <b>backend</b>."),
    ("client", "Clients", "A browser, phone or desktop holds a ticket and gets the next sig."),
    ("ops", "Ops", "Facts and health, for people and load balancers."),
)
_SERVED = {"api": "for backends", "gateway": "for clients"}
_SAMPLES = {
    "sdkappid": "1400000000",
    "userid": "alice",
}

_STYLE = """
:root{--ink:#1d2733;--soft:#5b6878;--line:#dfe5ec;--paper:#fff;--ground:#f5f7fa;--code:#f0f3f7;
--blue:#1457b8;--green:#0b7a4b;--red:#b3261e;color-scheme:light}
@media (prefers-color-scheme:dark){:root{--ink:#dde5ee;--soft:#93a1b1;--line:#2c3743;
--paper:#161d25;--ground:#0f151b;--code:#1d2630;--blue:#7db2ff;--green:#5ed3a0;--red:#ff8a80;
color-scheme:dark}}
*{box-sizing:border-box}html{scroll-padding-top:1rem}
body{margin:0;background:var(--ground);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
.page{display:grid;grid-template-columns:18rem minmax(0,54rem);gap:2.5rem;max-width:80rem;
margin:0 auto;padding:2rem 1.5rem 5rem}
nav{position:sticky;top:2rem;align-self:start;max-height:calc(100vh - 4rem);overflow:auto;
font-size:.875rem}
nav b{display:block;margin:1.2rem 0 .3rem;color:var(--soft);font-size:.75rem;
letter-spacing:.06em;text-transform:uppercase}
nav a{display:block;padding:.18rem 0;color:var(--ink);text-decoration:none}
nav a:hover{color:var(--blue)}
h1{margin:0;font-size:2rem;letter-spacing:-.02em}h2{margin:3rem 0 .25rem;font-size:1.4rem}
h3{margin:0 0 .4rem;font-size:1.08rem}
h4{margin:1.1rem 0 .35rem;font-size:.75rem;color:var(--soft);letter-spacing:.06em;
text-transform:uppercase}
p{margin:.4rem 0}.lead{color:var(--soft)}
section.route{margin:1rem 0;padding:1.2rem 1.4rem;background:var(--paper);
border:1px solid var(--line);border-radius:10px}
.call{display:flex;flex-wrap:wrap;align-items:center;gap:.6rem;margin-bottom:.6rem;
font-family:ui-monospace,SFMono-Regular,Menlo,monospace;font-size:.875rem;
overflow-wrap:anywhere}
.verb{padding:.1rem .55rem;border-radius:5px;color:#fff;font-weight:600}
.GET{background:#1457b8}.POST{background:#0b7a4b}
.who{margin-left:auto;padding:.1rem .6rem;border:1px solid var(--line);border-radius:1rem;
color:var(--soft);font:.75rem system-ui,sans-serif}
pre{margin:0;padding:.8rem 1rem;overflow-x:auto;background:var(--code);border-radius:7px;
font:.8125rem/1.5 ui-monospace,SFMono-Regular,Menlo,monospace}
code{padding:.05em .3em;background:var(--code);border-radius:4px;
font:.875em ui-monospace,SFMono-Regular,Menlo,monospace}
table{width:100%;border-collapse:collapse;font-size:.875rem}
td,th{padding:.35rem .8rem .35rem 0;border-top:1px solid var(--line);vertical-align:top;
text-align:left}th{color:var(--soft);font-weight:500;white-space:nowrap}
td:first-child{white-space:nowrap}.s4,.s5{color:var(--red);font-weight:600}
@media (max-width:60rem){.page{display:block}nav{display:none}}
"""


def render(schema: dict[str, Any], base: str, roles: Collection[str]) -> str:
    """The whole page. ``base`` is this service's address, for the example requests;
    ``roles`` are those of this process, which shows its own routes only."""
    menu: list[str] = []
    body: list[str] = []
    for tag, title, about in _GROUPS:
        routes = _routes_of(schema, tag)
        if not routes:
            continue
        menu.append(f"<b>{title}</b>")
        body.append(f'<h2 id="{tag}">{title}</h2><p class="lead">{about}</p>')
        for method, path, operation in routes:
            anchor = escape(operation["operationId"])
            menu.append(f'<a href="#{anchor}">{escape(operation["summary"])}</a>')
            body.append(_route(schema, base, method, path, operation))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>sigmgr API</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<style>{_STYLE}</style></head><body><div class="page">'
        f'<nav aria-label="Routes"><a href="#top"><strong>sigmgr API</strong></a>{"".join(menu)}'
        '<b>Machine-readable</b><a href="/openapi.json">openapi.json</a></nav>'
        f'<main id="top"><h1>sigmgr API</h1>{_text(schema["info"]["description"])}'
        f"{_elsewhere(roles)}{_problem(schema)}{''.join(body)}</main></div></body></html>"
    )


def _elsewhere(roles: Collection[str]) -> str:
    """Where the routes are that this process does not serve."""
    away = [f"<b>{name}</b> ({who})" for name, who in _SERVED.items() if name not in roles]
    if not away:
        return ""
    return f"<p>Other processes of this service have more routes: role {', '.join(away)}.</p>"


def _routes_of(schema: dict[str, Any], tag: str) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, operation)
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
        if operation["tags"][-1] == tag
    ]


def _route(
    schema: dict[str, Any], base: str, method: str, path: str, operation: dict[str, Any]
) -> str:
    parts = [
        f'<section class="route" id="{escape(operation["operationId"])}">',
        f'<div class="call"><span class="verb {method}">{method}</span>{escape(path)}',
        f'<span class="who">{_who(operation)}</span></div>',
        f"<h3>{escape(operation['summary'])}</h3>{_text(operation.get('description', ''))}",
        _parameters(operation),
        f"<h4>Request</h4><pre>{escape(_curl(schema, base, method, path, operation))}</pre>",
        _answer(schema, operation),
        _errors(operation),
        "</section>",
    ]
    return "".join(parts)


def _who(operation: dict[str, Any]) -> str:
    """Which credential, and of which roles."""
    for need in operation.get("security", ()):
        for name, roles in need.items():
            *most, last = roles or [""]
            return f"{name}: {', '.join(most)} or {last}" if most else f"{name} {last}".strip()
    return "open"


def _parameters(operation: dict[str, Any]) -> str:
    rows = [
        f"<tr><td><code>{escape(p['name'])}</code></td><td>{p['in']}</td>"
        f"<td>{_inline(p.get('description', ''))}</td></tr>"
        for p in operation.get("parameters", ())
    ]
    return f"<h4>Parameters</h4><table>{''.join(rows)}</table>" if rows else ""


def _curl(
    schema: dict[str, Any], base: str, method: str, path: str, operation: dict[str, Any]
) -> str:
    """The call as somebody would type it."""
    for name, value in _SAMPLES.items():
        path = path.replace("{" + name + "}", value)
    lines = [f"curl {'' if method == 'GET' else f'-X {method} '}{base}{path}"]
    for need in operation.get("security", ()):
        lines += [f'-H "Authorization: Bearer ${name.upper()}"' for name in need]
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content:
        example = json.dumps(_example(schema, content["schema"]))
        lines += ['-H "Content-Type: application/json"', f"-d '{example}'"]
    return " \\\n  ".join(lines)


def _answer(schema: dict[str, Any], operation: dict[str, Any]) -> str:
    for status, response in operation["responses"].items():
        if not status.startswith("2"):
            continue
        for kind, content in response.get("content", {}).items():
            if kind == "application/json":
                shown = json.dumps(_example(schema, content["schema"]), indent=2)
            else:
                shown = content.get("example", "")
            return f"<h4>Answer {status}</h4><pre>{escape(shown)}</pre>"
        return f"<h4>Answer {status}</h4><p>No body.</p>"
    return ""


def _errors(operation: dict[str, Any]) -> str:
    rows = [
        f'<tr><td class="s{status[0]}">{status}</td><td>{_inline(line)}</td></tr>'
        for status, response in operation["responses"].items()
        if status >= "400"
        for line in response["description"].splitlines()
    ]
    return f"<h4>Errors</h4><table>{''.join(rows)}</table>" if rows else ""


def _problem(schema: dict[str, Any]) -> str:
    problem = schema["components"]["schemas"]["Problem"]
    return f"<h4>An error</h4><pre>{escape(json.dumps(_example(schema, problem), indent=2))}</pre>"


def _example(schema: dict[str, Any], found: dict[str, Any]) -> Any:
    """Put together of the fields' examples, in the order of the contract; None: it is left out."""
    while "$ref" in found:
        found = schema["components"]["schemas"][found["$ref"].rsplit("/", 1)[-1]]
    if "examples" in found:
        return found["examples"][0]
    if "properties" in found:
        fields = {name: _example(schema, one) for name, one in found["properties"].items()}
        return {name: value for name, value in fields.items() if value is not None}
    if "items" in found:
        items = found["items"]
        return [_example(schema, one) for one in items.get("anyOf", [items])]
    for choice in found.get("anyOf", ()):
        if "$ref" in choice:
            return _example(schema, choice)
    return found.get("const", found.get("default", next(iter(found.get("enum", [None])))))


def _text(markdown: str) -> str:
    blocks = (" ".join(block.split()) for block in markdown.split("\n\n"))
    return "".join(f"<p>{_inline(block)}</p>" for block in blocks if block)


def _inline(text: str) -> str:
    return re.sub(r"``?([^`]+)``?", r"<code>\1</code>", escape(text, quote=False))
