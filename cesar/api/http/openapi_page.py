"""The API's documentation as an HTML page: no scripts, and nothing loaded from the network."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

Json = Mapping[str, Any]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --mark: #0a66c2; }
@media (prefers-color-scheme: dark) { :root { --mark: #6cb2ff; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1.5rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
code, pre { font: 0.9em/1.5 ui-monospace, monospace; } code { background: var(--soft); padding: 0 0.25em; }
pre { background: var(--soft); padding: 0.75rem; overflow-x: auto; } pre code { background: none; padding: 0; }
a { color: var(--mark); } summary { cursor: pointer; padding: 0.5rem 0; }
details { border-bottom: 1px solid var(--line); } details > div { padding: 0 0 1rem 1rem; }
b.method { display: inline-block; min-width: 4.5rem; color: var(--mark); }
table { border-collapse: collapse; width: 100%; } .soft { opacity: 0.75; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.75rem 0.25rem 0; border-top: 1px solid var(--line); }
"""
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""Allows the page's own style sheet, and nothing else."""


def page(openapi: Json) -> str:
    """Render an OpenAPI description as an HTML page."""
    about = openapi["info"]
    schemas: Json = openapi.get("components", {}).get("schemas", {})
    operations = [
        _operation(method, path, operation)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]
    schemes = openapi.get("components", {}).get("securitySchemes", {})
    parts = [
        f"<h1>{escape(about['title'])} <span class=soft>{escape(about['version'])}</span></h1>",
        _prose(about.get("description", "")),
        "<p>For programs: <a href=/openapi.json><code>/openapi.json</code></a></p>",
        *(f"<h2>{escape(name)}</h2>{_prose(scheme.get('description', ''))}" for name, scheme in schemes.items()),
        "<h2>Endpoints</h2>",
        *operations,
        "<h2>Schemas</h2>",
        *(_schema(name, schema) for name, schema in schemas.items()),
    ]
    head = (
        f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>{escape(about['title'])}</title>"
    )
    return (
        f"<!doctype html><html lang=en><head>{head}<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


def _operation(method: str, path: str, operation: Json) -> str:
    summary = f"<b class=method>{method.upper()}</b><code>{escape(path)}</code> {escape(operation.get('summary', ''))}"
    parts = [_prose(operation.get("description", ""))]
    parts.append(_table("Parameter", [_parameter(each) for each in operation.get("parameters", ())]))
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<p>Body: <code>{escape(media_type)}</code> {_type_of(content.get('schema', {}))}</p>")
        parts.append(_table("Field", list(_fields(content.get("schema", {})))))
    parts.append(_table("Status", [_response(*each) for each in operation.get("responses", {}).items()]))
    return f"<details><summary>{summary}</summary><div>{''.join(parts)}</div></details>"


def _parameter(parameter: Json) -> tuple[str, str, str]:
    schema = parameter.get("schema", {})
    required = ", required" if parameter.get("required") else ""
    place = f" <span class=soft>{escape(parameter['in'])}{required}</span>"
    return f"<code>{escape(parameter['name'])}</code>{place}", _type_of(schema), _meaning({**schema, **parameter})


def _response(status: str, response: Json) -> tuple[str, str, str]:
    content = response.get("content", {})
    types = "<br>".join(
        f"<code>{escape(media_type)}</code> {_type_of(body.get('schema', {}))}" for media_type, body in content.items()
    )
    shown = "any other" if status == "default" else escape(status)
    return shown, types, _inline(response.get("description", ""))


def _schema(name: str, schema: Json) -> str:
    body = _prose(schema.get("description", "")) + _table("Field", list(_fields(schema)))
    if "enum" in schema:
        body += f"<p>One of {_type_of(schema)}.</p>"
    return f"<details id='{escape(name)}'><summary><code>{escape(name)}</code></summary><div>{body}</div></details>"


def _fields(schema: Json) -> Iterator[tuple[str, str, str]]:
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        mark = " <span class=soft>required</span>" if name in required else ""
        yield f"<code>{escape(name)}</code>{mark}", _type_of(field), _meaning(field)


def _meaning(field: Json) -> str:
    default = field.get("default")
    content = _inline(field.get("description", ""))
    return content if default is None else f"{content} Default: <code>{escape(str(default))}</code>"


def _type_of(schema: Json) -> str:
    """Return the type of a schema, with links to the schemas that have a section."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        return f"<a href='#{name}'>{name}</a>"
    if "enum" in schema:
        return " ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return " or ".join(_type_of(each) for each in schema[choice])
    if schema.get("type") == "array":
        return f"list of {_type_of(schema.get('items', {}))}"
    limits = [
        f"{word} {schema[key]}"
        for key, word in (("minimum", "from"), ("maximum", "to"), ("maxLength", "up to"))
        if key in schema
    ]
    kind = schema.get("format") or schema.get("title" if "properties" in schema else "type", "")
    return escape(" ".join((str(kind), *limits)))


def _table(first: str, rows: list[tuple[str, str, str]]) -> str:
    if not rows:
        return ""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr><th>{first}</th><th>Kind</th><th>Meaning</th></tr>{body}</table>"


def _prose(text: str) -> str:
    """Render paragraphs and lists; of Markdown, only code and bold text are supported besides."""
    blocks = [block.strip() for block in text.strip().split("\n\n") if block.strip()]
    return "".join(_block(block) for block in blocks)


def _block(block: str) -> str:
    if block.startswith("```"):
        return f"<pre><code>{escape(block.strip('`').partition(chr(10))[2])}</code></pre>"
    items = re.split(r"^(?:\d+\.|[-*]) ", block, flags=re.MULTILINE)
    if len(items) > 1 and not items[0].strip():
        kind = "ol" if block[0].isdigit() else "ul"
        return f"<{kind}>{''.join(f'<li>{_inline(item)}</li>' for item in items[1:])}</{kind}>"
    return f"<p>{_inline(block)}</p>"


def _inline(text: str) -> str:
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", safe)
