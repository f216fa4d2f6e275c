"""OpenAPI schemas become tools, and their mistakes are told with the place."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from outcrop.tools.base import Parameter, SchemaMistake
from outcrop.tools.openapi import api_tools, check

TASKS = """\
openapi: "3.0.0"
paths:
  /tasks/{id}:
    parameters:
      - {name: trace, in: header, description: A mark., schema: {type: string}}
    put:
      description: Change a task.
      operationId: changeTask
      x-requireConfirmation: ENABLED
      x-anything: else
      parameters:
        - {name: id, in: path, description: The task., schema: {type: integer, minimum: 1}}
        - $ref: "#/components/parameters/Quiet"
      requestBody:
        required: true
        content:
          application/json:
            schema: {$ref: "#/components/schemas/Task"}
      responses:
        200: {description: Done.}
  /tasks:
    get:
      description: All tasks.
      responses:
        "200": {$ref: "#/components/responses/Fine"}
components:
  parameters:
    Quiet: {name: quiet, in: query, description: No mail., required: true, schema: {type: boolean}}
  responses:
    Fine: {description: Fine.}
  schemas:
    Due: {type: string, format: date, example: 2020-01-01}
    Task:
      type: object
      required: [title]
      additionalProperties: false
      properties:
        title: {type: string, description: What to do., enum: [wash, sweep]}
        due: {$ref: "#/components/schemas/Due"}
        parts: {type: array, items: {$ref: "#/components/schemas/Task"}}
"""
ARN = "arn:aws:lambda:us-east-1:123456789012:function:tasks"
TASK = "/components/schemas/Task"
PUT = "/paths/~1tasks~1{id}/put"
GROUP = {"actionGroupName": "tasks", "actionGroupExecutor": {"lambda": ARN}}


def with_(old: str, new: str) -> str:
    assert old in TASKS
    return TASKS.replace(old, new, 1)


def mistake(text: str) -> SchemaMistake:
    with pytest.raises(SchemaMistake) as told:
        check(text, "tasks")
    return told.value


def test_an_operation_is_a_tool() -> None:
    check(TASKS, "tasks")
    change, _ = api_tools(GROUP, TASKS)
    assert change.name == "PUT__tasks__changeTask"
    assert (change.kind, change.api_path, change.http_method) == ("api", "/tasks/{id}", "PUT")
    assert (change.execution, change.lambda_arn, change.requires_confirmation) == ("LAMBDA", ARN, True)
    assert change.spec["description"] == "Change a task."
    assert change.parameters == (
        Parameter("trace", "string", "header", description="A mark."),
        Parameter("id", "integer", "path", required=True, description="The task."),
        Parameter("quiet", "boolean", "query", required=True, description="No mail."),
        Parameter("title", "string", "application/json", required=True, description="What to do."),
        Parameter("due", "string", "application/json"),
        Parameter("parts", "array", "application/json"),
    )
    schema = change.spec["inputSchema"]["json"]
    assert schema["required"] == ["id", "quiet", "title"]
    assert schema["properties"]["id"] == {"type": "integer", "minimum": 1, "description": "The task."}
    assert schema["properties"]["title"]["enum"] == ["wash", "sweep"]
    assert schema["properties"]["due"] == {"type": "string", "format": "date"}
    assert schema["properties"]["parts"]["items"] == {"type": "object"}, "a task in a task is left open"


def test_json_says_the_same_as_yaml() -> None:
    text = json.dumps(
        {
            "openapi": "3.0.3",
            "info": {"title": "t", "version": "1"},
            "paths": {
                "/x": {"get": {"description": "d", "operationId": "x", "responses": {"200": {"description": "ok"}}}}
            },
        }
    )
    check(text, "tasks")
    [tool] = api_tools({**GROUP, "actionGroupExecutor": {"customControl": "RETURN_CONTROL"}}, text)
    assert (tool.name, tool.execution) == ("GET__tasks__x", "RETURN_CONTROL")


def test_a_missing_operation_id_is_derived_from_the_path() -> None:
    assert api_tools(GROUP, TASKS)[1].name == "GET__tasks__tasks"
    assert api_tools(GROUP, with_("      operationId: changeTask\n", ""))[0].name == "PUT__tasks__tasks_id"


def test_an_operation_overrides_its_paths_parameter() -> None:
    text = with_(
        "{name: id, in: path",
        "{name: trace, in: header, description: Mine., required: true}\n        - {name: id, in: path",
    )
    assert api_tools(GROUP, text)[0].parameters[0] == Parameter("trace", "string", "header", True, "Mine.")


def test_a_body_that_is_no_object_is_one_parameter() -> None:
    text = with_('{$ref: "#/components/schemas/Task"}', "{type: array, items: {type: string}}")
    body = api_tools(GROUP, text)[0].parameters[-1]
    assert (body.name, body.type, body.place, body.required) == ("body", "array", "application/json", True)


def test_parts_of_a_body_are_put_together() -> None:
    more = "{type: object, required: [by], properties: {by: {type: string}}}"
    parts = '{allOf: [{$ref: "#/components/schemas/Task"}, ' + more + "]}"
    parameters = api_tools(GROUP, with_('{$ref: "#/components/schemas/Task"}', parts))[0].parameters
    assert {p.name for p in parameters if p.place == "application/json" and p.required} == {"title", "by"}


def test_openapi_3_1_is_read_leniently() -> None:
    text = with_("3.0.0", "3.1.0").replace("{type: boolean}", '{type: ["null", boolean]}')
    check(text, "tasks")
    assert api_tools(GROUP, text)[0].parameters[2].type == "boolean"


def test_a_missing_description_is_told_in_the_services_words() -> None:
    told = mistake(with_("      description: All tasks.\n", ""))
    assert str(told) == (
        "Failed to create OpenAPI 3 model from the JSON/YAML object that you provided for action: tasks. "
        "Detail: 'description' is missing for path: /tasks (at /paths/~1tasks/get, line 22)"
    )
    assert told.pointer == "/paths/~1tasks/get"


@pytest.mark.parametrize(
    ("old", "new", "told", "pointer"),
    [
        ('openapi: "3.0.0"\n', "", "'openapi' is missing", ""),
        ("3.0.0", "2.0", "'openapi' is '2.0'", "/openapi"),
        ("  /tasks:", "  tasks:", "path 'tasks' must begin with '/'", "/paths/tasks"),
        ("    get:\n", "    got:\n", "'got' is no HTTP method", "/paths/~1tasks/got"),
        ("description: The task.,", "", "'description' is missing for parameter: id", PUT + "/parameters/0"),
        (
            "description: The task., schema: {type: integer",
            "schema: {description: x, type: integer",
            "beside 'name', not inside 'schema'",
            PUT + "/parameters/0",
        ),
        ("in: path,", "in: body,", "'in' is 'body'", PUT + "/parameters/0/in"),
        ("{name: id, ", "{", "'name' is missing", PUT + "/parameters/0"),
        ("    put:", "    get:", "'requestBody' is not allowed on GET", "/paths/~1tasks~1{id}/get/requestBody"),
        ("      responses:\n        200: {description: Done.}\n", "", "'responses' is missing", PUT),
        ("{description: Done.}", "{}", "'description' is missing for response: 200", PUT + "/responses/200"),
        ("changeTask", "change task", "use letters, digits, - and _", PUT + "/operationId"),
        ("changeTask", "change__task", "'change__task' contains '__'", PUT + "/operationId"),
        ("changeTask", "c" * 53, "has 65 characters", PUT + "/operationId"),
        ("ENABLED", "true", "it may be ENABLED or DISABLED", PUT + "/x-requireConfirmation"),
        ("parameters/Quiet\"", "parameters/Loud\"", "leads nowhere", PUT + "/parameters/1"),
        ('"#/components/schemas/Due"', '"http://127.0.0.1/due"', "leaves the document", TASK + "/properties/due"),
        ("Quiet: {", 'Quiet: {$ref: "#/components/parameters/Quiet", ', "leads in a circle", PUT + "/parameters/1"),
        ("required: [title]", "required: yes", "is not of type", TASK + "/required"),
        ("type: integer", "type: int", '"int" is not one of', PUT + "/parameters/0/schema/type"),
    ],
)  # fmt: skip
def test_mistakes_say_what_and_where(old: str, new: str, told: str, pointer: str) -> None:
    found = mistake(with_(old, new))
    assert told in str(found)
    assert found.pointer == pointer


def test_two_operations_may_not_share_a_name() -> None:
    text = with_(
        "    get:\n      description: All tasks.", "    put:\n      operationId: changeTask\n      description: All."
    )
    assert "is used for put of both /tasks/{id} and /tasks" in str(mistake(text))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"openapi": "3.0.0",\n  "paths": {,}}', "no valid JSON at line 2, column 13"),
        ('{"openapi": "3.0.0", "paths": {}, "paths": {}}', "the key 'paths' occurs twice"),
        ("openapi: 3.0.0\npaths: {a: [}", "no valid YAML at line 2, column 13"),
        ("openapi: 3.0.0\npaths: {}\nopenapi: 3.0.0", "line 3, column 1: the key 'openapi' occurs twice"),
        ("openapi: 3.0.0\n\tpaths: {}", "no valid YAML at line 2"),
        ("? [a]\n: b", "a key is no text"),
        ("a: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("a: \x00", "no valid YAML"),
        ('{"a": ' + "9" * 5000 + "}", "no valid JSON"),
        ('{"openapi": "\\ud800"}', "a value that JSON cannot carry"),
        ("", "the document is missing"),
        ("just words", "the document is no object"),
        ("openapi: 3.0.0", "'paths' is missing"),
        ("openapi: 3.0.0\npaths: {}", "'paths' is empty"),
        ("openapi: 3.0.0\npaths: 7", "'paths' is no object"),
        ("openapi: 3.0.0\npaths: {/x: [1]}", "path /x is no object"),
        ("openapi: 3.0.0\npaths: {/x: {get: 7}}", "operation get of path /x is no object"),
    ],
)  # fmt: skip
def test_what_is_no_document_at_all(text: str, told: str) -> None:
    assert told in str(mistake(text))


_LEVELS = "\n".join(
    f"{now}: &{now} [{', '.join([f'*{before}'] * 9)}]" for before, now in zip("abcdefgh", "bcdefghi", strict=True)
)
_MERGES = _LEVELS.replace(" [", " {<<: [").replace("]", "]}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &a [x, x, x, x, x, x, x, x, x]\n" + _LEVELS, "more than 200000 values"),
        ("a: &a {k: 1}\n" + _MERGES, "more than 200000 values"),
        ("a: &a [*a]", "into itself"),
        ("[" * 100_000, "nested deeper than 100"),
        ('{"a":' * 100_000, "nested deeper than 100"),
        ("a: " + "[" * 200 + "]" * 200, "nested deeper than 100"),
        ('{"a":' * 200 + "1" + "}" * 200, "nested deeper than 100"),
        ("x" * 1_000_001, "larger than 1000000 bytes"),
    ],
    ids=["aliases", "merges", "itself", "yaml", "json", "closed yaml", "closed json", "large"],
)  # fmt: skip
def test_bombs_are_refused(text: str, told: str) -> None:
    assert told in str(mistake(text))


def test_references_that_multiply_are_refused() -> None:
    schemas = {
        f"S{level}": {
            "type": "object",
            "properties": {f"p{i}": {"$ref": f"#/components/schemas/S{level + 1}"} for i in range(9)},
        }
        for level in range(9)
    }
    schemas["S9"] = {"type": "string"}
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/S0"}}}}
    operation = {"description": "d", "requestBody": body, "responses": {"200": {"description": "ok"}}}
    text = json.dumps({"openapi": "3.0.0", "paths": {"/x": {"post": operation}}, "components": {"schemas": schemas}})
    assert "references written out" in str(mistake(text))


def test_the_meta_schema_is_loaded_only_when_a_schema_is_written() -> None:
    script = (
        "import sys; from outcrop.tools.openapi import api_tools; "
        f"api_tools({GROUP!r}, {TASKS!r}); print('openapi_spec_validator' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
