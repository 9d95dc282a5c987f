"""Read the API's operations from its OpenAPI document, so that their documentation can't differ from the code."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator

from portal.api.documentation.samples import SampleRequest, as_curl, as_json, as_python, path_address

Schema = dict[str, Any]
TAGS = ("predictions", "products", "categories")
MEDIA_TYPES = {"application/json": "JSON", "multipart/form-data": "Form (multipart/form-data)"}
NESTED = 2  # levels of a response whose fields are described


@dataclass(frozen=True)
class Field:
    """A parameter, a field of a request's body, or a field of a response."""

    name: str
    type: str
    description: str
    required: bool = False
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Body:
    """A request's body in one media type, with a request in curl and Python."""

    label: str
    description: str
    fields: tuple[Field, ...]
    curl: str
    python: str


@dataclass(frozen=True)
class Status:
    """A response's status and what it means."""

    code: str
    description: str


@dataclass(frozen=True)
class Operation:
    """One operation of the API."""

    id: str
    method: str
    path: str
    summary: str
    description: str
    parameters: tuple[Field, ...]
    bodies: tuple[Body, ...]
    statuses: tuple[Status, ...]
    response_status: str
    response_fields: tuple[Field, ...]
    response: str


@lru_cache(maxsize=1)
def openapi_document() -> Schema:
    """Return the OpenAPI document, which is the same for the life of the process."""
    document: Schema = SchemaGenerator().get_schema(request=None, public=True)
    return document


def operations(host: str) -> Iterator[tuple[str, list[Operation]]]:
    """Yield the operations by tag. `host` is the address of this installation, for the examples."""
    document = openapi_document()
    found: dict[str, list[Operation]] = {tag: [] for tag in TAGS}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            reader = OperationReader(document, host, method.upper(), path, operation)
            found[operation["tags"][0]].append(reader.read())
    yield from found.items()


class OperationReader:
    """Reads one operation of an OpenAPI document."""

    def __init__(self, document: Schema, host: str, method: str, path: str, operation: Schema) -> None:
        self.schemas: dict[str, Schema] = document["components"]["schemas"]
        self.host, self.method, self.path, self.operation = host, method, path, operation

    def read(self) -> Operation:
        summary, _dot, more = self.operation["description"].partition(". ")
        status, response = self._success()
        schema = response.get("schema", {})
        example = response.get("example")
        return Operation(
            id=self.operation["operationId"],
            method=self.method,
            path=self.path,
            summary=summary.rstrip("."),
            description=more,
            parameters=tuple(self._parameter(each) for each in self.operation.get("parameters", [])),
            bodies=tuple(self._bodies()),
            statuses=tuple(self._statuses()),
            response_status=status,
            response_fields=tuple(self._fields(schema)),
            response=as_json(example) if example is not None else "(a JPEG file)" if self._is_photo() else "",
        )

    def _success(self) -> tuple[str, Schema]:
        """Return the status and the content of the response that the example shows, or of the first success."""
        successes = {code: each for code, each in self.operation["responses"].items() if code.startswith("2")}
        for code, each in successes.items():
            content = each.get("content", {}).get("application/json", {})
            if "example" in content:
                return code, content
        return next(iter(successes)), {}

    def _parameter(self, parameter: Schema) -> Field:
        place = {"query": "query", "path": "path", "header": "header"}[parameter["in"]]
        schema = parameter["schema"]
        return Field(
            name=parameter["name"],
            type=f"{self._type(schema)}, {place}",
            description=_first_paragraph(parameter.get("description", "")),
            required=parameter.get("required", False),
            values=tuple(schema.get("enum", ())),
        )

    def _bodies(self) -> Iterator[Body]:
        for media_type, content in self.operation.get("requestBody", {"content": {"": {}}})["content"].items():
            sample = self._sample(media_type, content)
            schema = content.get("schema", {})
            description = self._resolved(schema).get("description", "")
            fields = tuple(self._fields(schema))
            yield Body(MEDIA_TYPES.get(media_type, ""), description, fields, as_curl(sample), as_python(sample))

    def _sample(self, media_type: str, content: Schema) -> SampleRequest:
        values = {each["name"]: (each["in"], each["example"]) for each in self._parameters_with_examples()}
        places: dict[str, dict[str, str]] = {"path": {}, "query": {}, "header": {}}
        for name, (place, value) in values.items():
            places[place][name] = value
        properties = self._resolved(content.get("schema", {})).get("properties", {})
        example = content.get("example", {})
        files = {name: value for name, value in example.items() if _is_file(properties[name])}
        return SampleRequest(
            method=self.method,
            address=self.host + path_address(self.path, places["path"]),
            query=places["query"],
            headers=places["header"],
            fields={name: value for name, value in example.items() if name not in files},
            files=files,
            media_type=media_type,
            saved_as="photo.jpg" if self._is_photo() else "",
        )

    def _is_photo(self) -> bool:
        """Return whether the response is a photo and not JSON."""
        return "image/jpeg" in self.operation["responses"].get("200", {}).get("content", {})

    def _parameters_with_examples(self) -> list[Schema]:
        return [each for each in self.operation.get("parameters", []) if "example" in each]

    def _statuses(self) -> Iterator[Status]:
        for code, response in self.operation["responses"].items():
            yield Status(code, response.get("description", ""))

    def _fields(self, schema: Schema, prefix: str = "", level: int = 0) -> Iterator[Field]:
        schema = self._resolved(schema)
        if schema.get("type") == "array":
            yield from self._fields(schema["items"], prefix, level)
        required = schema.get("required", ())
        for name, each in schema.get("properties", {}).items():
            yield self._field(f"{prefix}{name}", each, name in required)
            if level < NESTED:
                yield from self._fields(each, f"{prefix}{name}.", level + 1)

    def _field(self, name: str, schema: Schema, required: bool) -> Field:
        resolved = self._resolved(schema)
        values = [value for value in resolved.get("enum", ()) if value]
        description = schema.get("description", "")
        return Field(name, self._type(schema), _first_paragraph(description), required, tuple(values))

    def _type(self, schema: Schema) -> str:
        resolved = self._resolved(schema)
        kind = {"uuid": "UUID", "date-time": "time", "binary": "file", "uri": "address"}.get(resolved.get("format", ""))
        kind = kind or resolved.get("type", "string")
        if kind == "array":
            kind = f"list of {self._type(resolved['items'])}s"
        return f"{kind} or null" if schema.get("nullable") or _allows_null(schema) else kind

    def _resolved(self, schema: Schema) -> Schema:
        """Return the schema that a reference names; of alternatives the first, as the other one is null."""
        for key in ("allOf", "oneOf"):
            if key in schema:
                return self._resolved(schema[key][0])
        if "$ref" in schema:
            return self._resolved(self.schemas[schema["$ref"].rsplit("/", 1)[1]])
        return schema


def _is_file(schema: Schema) -> bool:
    return bool(schema.get("items", schema).get("format") == "binary")


def _allows_null(schema: Schema) -> bool:
    return any("NullEnum" in each.get("$ref", "") for each in schema.get("oneOf", ()))


def _first_paragraph(text: str) -> str:
    """Return the text without the list of a choice's values that drf-spectacular adds to it."""
    paragraphs = [part for part in text.split("\n\n") if not part.startswith("* ")]
    return " ".join(paragraphs)
