"""The API for people, drawn from its OpenAPI document: one page without scripts that needs no network."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2026; }
h2 { border-bottom: 1px solid #ccd; margin-top: 2.5rem; }
h3 { margin: 1.8rem 0 .3rem; font: 600 1rem ui-monospace, monospace; }
.method { display: inline-block; min-width: 4.2rem; color: #0b5; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
pre { background: #f4f5f7; padding: .7rem; overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
td { border-top: 1px solid #e3e5e9; padding: .25rem .8rem .25rem 0; vertical-align: top; } .faint { color: #666d76; }
"""


def page(document: Mapping[str, Any]) -> str:
    """HTML of an OpenAPI 3.1 document."""
    info = document["info"]
    head = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title><style>{STYLE}</style>"
    )
    intro = f"<h1>{escape(info['title'])}</h1>{_prose(info.get('description', ''))}{''.join(_keys(document))}"
    link = "<p class=faint>For programs: <a href=/openapi.json>/openapi.json</a></p>"
    return head + intro + link + "".join(_sections(document))


def _keys(document: Mapping[str, Any]) -> Iterator[str]:
    for scheme in document.get("components", {}).get("securitySchemes", {}).values():
        header = f"<pre>Authorization: {escape(scheme['scheme'].title())} $VIDEOGEN_API_KEY</pre>"
        yield f"<h2>keys</h2>{_prose(scheme.get('description', ''))}{header}"


def _sections(document: Mapping[str, Any]) -> Iterator[str]:
    found: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tag = operation.get("tags", ["other"])[0]
            found.setdefault(tag, []).append(_operation(document, path, method, operation))
    for tag, operations in found.items():
        yield f"<h2>{escape(tag)}</h2>{''.join(operations)}"


def _operation(document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> str:
    title = f"<h3><span class=method>{method.upper()}</span> {escape(path)}</h3>"
    rows = [_row(p["name"], p["schema"], p["in"], p.get("description", "")) for p in operation.get("parameters", [])]
    content = operation.get("requestBody", {}).get("content", {})
    body = _resolved(document, next(iter(content.values()))["schema"]) if content else {}
    needed = body.get("required", [])
    for name, schema in body.get("properties", {}).items():
        rows.append(_row(name, schema, "body, required" if name in needed else "body", schema.get("description", "")))
    table = f"<table>{''.join(rows)}</table>" if rows else ""
    example = _example(path, method, body, needs_key="security" in operation)
    return title + _prose(operation.get("description", "")) + table + example + _answers(operation)


def _row(name: str, schema: Mapping[str, Any], where: str, told: str) -> str:
    facts = (
        f"{_kind(schema)}{' · default ' + json.dumps(schema['default']) if schema.get('default') is not None else ''}"
    )
    return f"<tr><td><code>{escape(name)}</code><td class=faint>{where}<td>{escape(facts)}<td>{escape(told)}"


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    parts = [_kind(part) for part in schema.get("anyOf", []) if part.get("type") != "null"]
    return " or ".join(parts) or str(schema.get("type", "any"))


def _example(path: str, method: str, body: Mapping[str, Any], needs_key: bool) -> str:
    examples = {n: s["examples"][0] for n, s in body.get("properties", {}).items() if s.get("examples")}
    call = f"curl{'' if method == 'get' else ' -X ' + method.upper()} $VIDEOGEN{path}"
    call += ' \\\n  -H "authorization: Bearer $VIDEOGEN_API_KEY"' if needs_key else ""
    data = f" \\\n  -H 'content-type: application/json' \\\n  -d '{json.dumps(examples)}'" if examples else ""
    return f"<pre>{escape(call + data)}</pre>"


def _answers(operation: Mapping[str, Any]) -> str:
    told = [f"{status}: {answer['description']}" for status, answer in operation["responses"].items()]
    return f"<p class=faint>{escape(' · '.join(told))}</p>"


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in schema:
        return document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
    return schema


def _prose(text: str) -> str:
    return "".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n") if part.strip())
