"""Write a request as a curl command and as Python code."""

import json
import shlex
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

JSON = "application/json"
INDENT = " " * 4
LONGEST_LINE = 62  # fits beside the fields on a laptop
# A key is for one request: a program with a fixed one would fail when it runs again with other values.
KEY_HEADER = "Idempotency-Key"


@dataclass(frozen=True)
class SampleRequest:
    """A request to show: its values are those of the OpenAPI document's examples."""

    method: str
    address: str  # without the query
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    files: dict[str, list[str]] = field(default_factory=dict)
    media_type: str = ""
    saved_as: str = ""  # the file that the response is, where it isn't JSON


def as_curl(request: SampleRequest) -> str:
    """Return a command for a POSIX shell."""
    address = request.address + (f"?{urlencode(request.query)}" if request.query else "")
    # curl itself chooses POST for a request with a body, and GET for one without.
    usual = "POST" if request.fields or request.files else "GET"
    first = "curl" if request.method == usual else f"curl -X {request.method}"
    lines = [f"{first} {shlex.quote(address)}", '-H "Authorization: Bearer $TOKEN"']
    lines += [f"-H {_shell(f'{name}: {value}')}" for name, value in request.headers.items()]
    if request.media_type == JSON:
        lines += [f"-H {_shell(f'Content-Type: {JSON}')}", f"-d {shlex.quote(json.dumps(request.fields))}"]
    else:
        lines += [f"-F {_shell(f'{name}={value}')}" for name, value in request.fields.items()]
        lines += [f"-F {name}=@{shlex.quote(path)}" for name, path in _files(request)]
    if request.saved_as:
        lines.append(f"-o {shlex.quote(request.saved_as)}")
    return f" \\\n{INDENT}".join(lines)


def as_python(request: SampleRequest) -> str:
    """Return a program that uses the package requests."""
    arguments = [repr_double(request.address)]
    if request.query:
        arguments.append(f"params={_dict(request.query)}")
    headers = ['"Authorization": f"Bearer {os.environ[\'TOKEN\']}"']
    headers += [_python_header(name, value) for name, value in request.headers.items()]
    arguments.append(f"headers={_bracketed(headers)}")
    if request.fields:
        arguments.append(f"{'json' if request.media_type == JSON else 'data'}={_dict(request.fields)}")
    if request.files:
        files = [f'({repr_double(name)}, open({repr_double(path)}, "rb"))' for name, path in _files(request)]
        arguments.append(f"files={_bracketed(files, '[]')}")
    arguments.append("timeout=30")
    call = "".join(f"{INDENT}{argument},\n" for argument in arguments)
    lines = [
        "import os",
        *(["import uuid"] if KEY_HEADER in request.headers else []),
        "",
        "import requests",
        "",
        f"response = requests.{request.method.lower()}(\n{call})",
        "response.raise_for_status()",
    ]
    if request.saved_as:
        lines += [
            f'with open({repr_double(request.saved_as)}, "wb") as file:',
            f"{INDENT}file.write(response.content)",
        ]
    has_json = request.method != "DELETE" and not request.saved_as
    lines.append("print(response.json())" if has_json else "print(response.status_code)")
    return "\n".join(lines)


def _files(request: SampleRequest) -> list[tuple[str, str]]:
    return [(name, path) for name, paths in request.files.items() for path in paths]


def as_json(value: Any, indent: int = 0, used: int = 0) -> str:
    """Return JSON in which lists and objects that fit stay on one line, so that responses are short to read.

    `used` characters of the first line are taken by a name.
    """
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or len(line) + indent + used <= LONGEST_LINE:
        return line
    inner = "\n" + " " * (indent + 2)
    if isinstance(value, list):
        rows = [as_json(row, indent + 2) for row in value]
        return "[" + inner + f",{inner}".join(rows) + "\n" + " " * indent + "]"
    pairs = [f"{json.dumps(name)}: {as_json(row, indent + 2, len(name) + 4)}" for name, row in value.items()]
    return "{" + inner + f",{inner}".join(pairs) + "\n" + " " * indent + "}"


def path_address(path: str, values: dict[str, str]) -> str:
    """Return the path with its parameters filled in."""
    for name, value in values.items():
        path = path.replace("{" + name + "}", quote(value))
    return path


def repr_double(value: Any) -> str:
    """Return a Python literal, texts in double quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _python_header(name: str, value: str) -> str:
    return f"{repr_double(name)}: {'str(uuid.uuid4())' if name == KEY_HEADER else repr_double(value)}"


def _dict(values: dict[str, Any]) -> str:
    return _bracketed([f"{repr_double(name)}: {repr_double(value)}" for name, value in values.items()])


def _bracketed(items: list[str], brackets: str = "{}") -> str:
    line = brackets[0] + ", ".join(items) + brackets[1]
    if len(line) <= 60:
        return line
    inner = "".join(f"{INDENT * 2}{item},\n" for item in items)
    return f"{brackets[0]}\n{inner}{INDENT}{brackets[1]}"


def _shell(text: str) -> str:
    """Return the text in double quotes, or in single ones where it has characters that a shell replaces."""
    return shlex.quote(text) if any(sign in text for sign in '"$`\\!') else f'"{text}"'
