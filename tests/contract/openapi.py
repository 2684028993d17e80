"""sdk/openapi.yaml as a judge of requests and answers, and what of it was seen."""

import dataclasses
import datetime
import json
import re
import urllib.parse

import jsonschema
import yaml

METHODS = ("GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE")
# HTTP's own, and what the document's introduction says of every answer.
COMMON_HEADERS = {"date", "connection", "content-length", "content-type", "x-request-id",
                  "cache-control", "pragma"}

FORMATS = jsonschema.FormatChecker(formats=())


@FORMATS.checks("uri", raises=ValueError)
def is_uri(text) -> bool:
    return not isinstance(text, str) or bool(urllib.parse.urlsplit(text).scheme)


@FORMATS.checks("uri-reference", raises=ValueError)
def is_uri_reference(text) -> bool:
    return not isinstance(text, str) or urllib.parse.urlsplit(text) is not None


@FORMATS.checks("date-time", raises=ValueError)
def is_time(text) -> bool:
    return not isinstance(text, str) or bool(
        datetime.datetime.fromisoformat(text.replace("Z", "+00:00")))


@dataclasses.dataclass
class Operation:
    id: str
    method: str
    path: str
    parameters: list  # resolved
    request: dict     # media type to schema
    responses: dict   # status to resolved response
    security: set     # names of schemes; "" for none
    body_required: bool = False

    def names(self, place: str) -> set:
        return {each["name"] for each in self.parameters if each["in"] == place}


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict  # names in lower case
    body: bytes
    request_id: str = ""
    authorized: bool = False  # the request had an Authorization header

    @property
    def json(self):
        return json.loads(self.body)


class Contract:
    def __init__(self, file):
        self.document = yaml.safe_load(file.read_text(encoding="utf-8"))
        self.statuses = set()    # of answers: (operation, status)
        self.parameters = set()  # of requests that succeeded: (operation, place, name)
        self.sent = set()        # id() of each member's schema, in requests that succeeded
        self.received = set()    # the same, in answers
        self.operations = {}
        for path, item in self.document["paths"].items():
            for method in METHODS:
                if (found := item.get(method.lower())) is not None:
                    operation = self._operation(method, path, item, found)
                    self.operations[operation.id] = operation

    def _operation(self, method: str, path: str, item: dict, found: dict) -> Operation:
        parameters = [self.resolve(each)
                      for each in item.get("parameters", []) + found.get("parameters", [])]
        request = {media: content["schema"]
                   for media, content in found.get("requestBody", {}).get("content", {}).items()}
        security = {name for each in found["security"] for name in each or [""]} or {""}
        return Operation(found["operationId"], method, path, parameters, request,
                         {int(status): self.resolve(each)
                          for status, each in found["responses"].items()}, security,
                         found.get("requestBody", {}).get("required", False))

    def resolve(self, value: dict) -> dict:
        while "$ref" in value:
            target = self.document
            for step in value["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            value = target
        return value

    # Judging.

    def errors(self, schema: dict, value) -> list:
        # The components beside it, so that '#/components/…' is found.
        validator = jsonschema.Draft202012Validator(
            {"components": self.document["components"], "allOf": [schema]}, format_checker=FORMATS)
        return [f"/{'/'.join(map(str, each.absolute_path))}: {each.message[:300]}"
                for each in validator.iter_errors(value)]

    def faults_of_answer(self, operation: Operation, answer: Answer) -> list:
        response = operation.responses.get(answer.status)
        if response is None:
            return [f"status {answer.status} is not documented: {answer.body[:300]!r}"]
        self.statuses.add((operation.id, answer.status))
        return self.faults(response, answer)

    def faults(self, response: dict, answer: Answer) -> list:
        """What the answer has that the response has not, or the other way round."""
        return [*self._header_faults(response.get("headers", {}), answer),
                *self._body_faults(response.get("content", {}), answer)]

    def _header_faults(self, documented: dict, answer: Answer):
        known = {name.lower(): self.resolve(each) for name, each in documented.items()}
        for name in set(answer.headers) - set(known) - COMMON_HEADERS:
            yield f"header {name} is not documented"
        for name, header in known.items():
            if name in answer.headers:
                text = answer.headers[name]
                number = header["schema"].get("type") == "integer" and text.isdigit()
                for error in self.errors(header["schema"], int(text) if number else text):
                    yield f"header {name}: {error}"
            elif header.get("required"):
                yield f"header {name} is missing"
        # What the descriptions of these two promise.
        challenge = known.get("www-authenticate", {}).get("description", "")
        always = "when the request used the Authorization header" not in challenge
        if answer.status == 401 and (answer.authorized or always):
            if "www-authenticate" not in answer.headers:
                yield "a 401 without WWW-Authenticate"
        if answer.status in (429, 503) and "retry-after" in known:
            if "retry-after" not in answer.headers:
                yield f"a {answer.status} without Retry-After"
        # And the introduction. What was refused half read, which closes the connection, gets an
        # id of its own.
        closed = answer.headers.get("connection") == "close"
        given = answer.headers.get("x-request-id")
        if not given or (given != answer.request_id and not closed):
            yield "X-Request-Id is not the request's"
        if answer.headers.get("content-type", "").endswith("json") and "cache-control" not in known:
            if answer.headers.get("cache-control") != "no-store":
                yield "Cache-Control is not no-store"

    def _body_faults(self, content: dict, answer: Answer):
        media = answer.headers.get("content-type", "").split(";")[0]
        if not content:
            if answer.body or media:
                yield f"an undocumented body: {answer.body[:300]!r}"
        elif media not in content:
            yield f"content type {media!r} is not documented"
        elif media.endswith("json"):
            try:
                value = answer.json
            except ValueError:
                yield f"not JSON: {answer.body[:300]!r}"
                return
            yield from self.errors(content[media]["schema"], value)
            yield from self.walk(content[media]["schema"], value, self.received)

    def walk(self, schema: dict, value, seen: set, place: str = ""):
        """Yields members of the value that its schema does not name; remembers which it has.

        Schemas of answers are open, so that clients accept members to come. What comes today
        must be in the document all the same.
        """
        parts = list(self._parts(schema, value))
        if isinstance(value, list):
            for part in parts:
                for index, item in enumerate(value):
                    if "items" in part:
                        yield from self.walk(part["items"], item, seen, f"{place}/{index}")
        if not isinstance(value, dict):
            return
        members = {}
        for part in parts:
            members |= part.get("properties", {})
        others = [part["additionalProperties"] for part in parts
                  if isinstance(part.get("additionalProperties"), dict)]
        for name, each in value.items():
            if name in members:
                seen.add(id(members[name]))
                if seen is self.received and members[name].get("writeOnly"):
                    yield f"{place}/{name}: is not for answers"
                yield from self.walk(members[name], each, seen, f"{place}/{name}")
            elif others:
                yield from self.walk(others[0], each, seen, f"{place}/{name}")
            elif members:  # else it is a map of anything
                yield f"{place}/{name}: the document does not name this member"

    def _parts(self, schema: dict, value):
        schema = self.resolve(schema)
        yield schema
        for each in schema.get("allOf", []):
            yield from self._parts(each, value)
        for each in schema.get("oneOf", []) + schema.get("anyOf", []):
            if not self.errors(each, value):
                yield from self._parts(each, value)

    # What there is to see.

    def members_of_requests(self) -> dict:
        return self._members(schema for each in self.operations.values()
                             for schema in each.request.values())

    def members_of_answers(self) -> dict:
        return self._members((content["schema"] for each in self.operations.values()
                              for response in each.responses.values()
                              for content in response.get("content", {}).values()), "writeOnly")

    def _members(self, schemas, without: str = "") -> dict:
        """Every member below the schemas: id() of its schema to a name for people."""
        found, visited = {}, set()

        def visit(schema, label):
            if "$ref" in schema:
                label = schema["$ref"].rsplit("/", 1)[1]
            schema = self.resolve(schema)
            if id(schema) in visited:
                return
            visited.add(id(schema))
            for name, each in schema.get("properties", {}).items():
                if not each.get(without):
                    found[id(each)] = f"{label}.{name}"
                    visit(each, f"{label}.{name}")
            for each in schema.get("allOf", []) + schema.get("oneOf", []) + schema.get("anyOf", []):
                visit(each, label)
            for keyword in ("items", "additionalProperties"):
                if isinstance(schema.get(keyword), dict):
                    visit(schema[keyword], label)

        for schema in schemas:
            visit(schema, "")
        return found

    def examples(self):
        """Every example in the document, with the schema it is an example of."""
        def visit(value):
            if isinstance(value, dict):
                if "schema" in value:
                    for each in value.get("examples", {}).values():
                        yield value["schema"], each["value"]
                elif isinstance(value.get("examples"), list):
                    for each in value["examples"]:
                        yield value, each
                for each in value.values():
                    yield from visit(each)
            elif isinstance(value, list):
                for each in value:
                    yield from visit(each)
        return visit(self.document)

    def broken(self, schema: dict, value, done: set | None = None, place: str = ""):
        """The value with one thing in it that the schema forbids: each constraint once."""
        done = set() if done is None else done
        location, schema = id(schema), self.resolve(schema)

        def once(what: str, changed):
            if (location, what) not in done:
                done.add((location, what))
                yield f"{place} {what}", changed

        other_type = {str: 7, bool: "yes", int: "many", list: {}, dict: []}
        if "type" in schema or "const" in schema or "enum" in schema:
            yield from once("type", other_type[type(value)])
        if "enum" in schema or "const" in schema:
            yield from once("enum", "undescribed")
        if "pattern" in schema:
            yield from once("pattern", next(each for each in (" ", "~", "")
                                            if not re.search(schema["pattern"], each)))
        for keyword, step in (("minimum", -1), ("maximum", 1)):
            if keyword in schema:
                yield from once(keyword, schema[keyword] + step)
        if "maxLength" in schema:
            yield from once("maxLength", "x" * (schema["maxLength"] + 1))
        if "minLength" in schema:
            yield from once("minLength", "x" * (schema["minLength"] - 1))
        if "maxItems" in schema:
            yield from once("maxItems", value[:1] * (schema["maxItems"] + 1))
        if "minItems" in schema:
            yield from once("minItems", [])
        if isinstance(value, dict):
            if schema.get("additionalProperties") is False:
                yield from once("unknown member", {**value, "undescribed": 1})
            if "minProperties" in schema:
                yield from once("minProperties", {})
            if value and isinstance(schema.get("additionalProperties"), dict):
                example = next(iter(value.values()))
                if "maxProperties" in schema:
                    yield from once("maxProperties", {f"name{number}": example for number in
                                                      range(schema["maxProperties"] + 1)})
                if "propertyNames" in schema:
                    yield from once("propertyNames", {
                        "x" * (schema["propertyNames"]["maxLength"] + 1): example})
            for name in schema.get("required", []):
                yield from once(f"without {name}",
                                {key: each for key, each in value.items() if key != name})
            for name, each in value.items():
                inner = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
                if isinstance(inner, dict):
                    for what, changed in self.broken(inner, each, done, f"{place}/{name}"):
                        yield what, {**value, name: changed}
        if isinstance(value, list) and "items" in schema:
            for index, each in enumerate(value):
                for what, changed in self.broken(schema["items"], each, done, f"{place}/{index}"):
                    yield what, [*value[:index], changed, *value[index + 1:]]
