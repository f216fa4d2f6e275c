"""What ARNs and buckets stand for."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from aiohttp import web

from outcrop.config import Binding, ConfigMistake
from outcrop.tools._lambda_arn import LambdaName, lambda_name
from outcrop.tools.base import ToolUnreachable
from outcrop.tools.bindings import MAX_OBJECT_BYTES, Functions, ObjectUnreadable, bucket_object, check_buckets
from outcrop.tools.executors.aws_lambda import AwsLambda
from outcrop.tools.executors.local_function import LocalFunction

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:stock"
LOCAL = {"path": "."}
REMOTE = {"kind": "aws_lambda", "endpoint_url": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("arn", "parts"),
    [
        (ARN, LambdaName(ARN, "stock", "", "eu-west-1", "123456789012")),
        (f"{ARN}:PROD", LambdaName(f"{ARN}:PROD", "stock", "PROD", "eu-west-1", "123456789012")),
        ("stock", LambdaName("stock", "stock")),
        ("stock:7", LambdaName("stock:7", "stock", "7")),
        ("", LambdaName("", "")),
    ],
)
def test_the_parts_of_an_arn(arn, parts) -> None:
    assert lambda_name(arn) == parts


def test_an_arn_without_its_qualifier() -> None:
    assert lambda_name(f"{ARN}:PROD").unqualified == ARN
    assert lambda_name(ARN).unqualified == ARN


@pytest.mark.parametrize("pattern", ["stock", "sto*", "*:stock", "*:PROD", ARN, f"{ARN}:PROD", "arn:aws:lambda:*", "*"])
def test_a_glob_matches_arn_unqualified_arn_or_name(pattern) -> None:
    functions = Functions([Binding("other", REMOTE), Binding(pattern, LOCAL)], Path.cwd())
    assert isinstance(functions.executor_for(f"{ARN}:PROD"), LocalFunction)


def test_the_first_match_wins_and_has_one_executor() -> None:
    functions = Functions([Binding("stock", LOCAL), Binding("*", REMOTE)], Path.cwd())
    assert functions.executor_for(ARN) is functions.executor_for(f"{ARN}:PROD")
    other = functions.executor_for("arn:aws:lambda:eu-west-1:123456789012:function:other")
    assert isinstance(other, AwsLambda)
    assert functions.executor_for("another") is other


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"kind": "openapi", "url": "http://127.0.0.1"}, "no kind 'openapi'; there are aws_lambda, local_function"),
        ({"url": "http://127.0.0.1"}, "says neither `path` nor `kind`"),
        ({"path": ".", "timeout": 3}, "unknown key 'timeout'; did you mean 'timeout_s'?"),
        ({"path": ".", "timeout_s": 0}, "timeout_s = 0 is no positive number"),
        ({"path": ".", "concurrency": 1.5}, "concurrency = 1.5 is no whole number"),
        ({"path": ".", "handler": 3}, "handler = 3 is no text"),
        ({"path": ".", "environment": ["A"]}, "environment is no table"),
        ({"path": ".", "environment": {"A": []}}, "environment.A is no text"),
        ({"path": ".", "pass_environment": "HOME"}, "pass_environment is no list of names"),
        ({"kind": "aws_lambda", "path": "."}, "unknown key 'path'"),
    ],
)
def test_a_binding_that_cannot_be_used(settings, told) -> None:
    with pytest.raises(ToolUnreachable) as error:
        Functions([Binding("stock", settings)], Path.cwd()).executor_for("stock")
    assert told in str(error.value)
    assert "[functions] 'stock'" in str(error.value)


def test_a_function_without_a_binding_says_how_to_bind_it() -> None:
    with pytest.raises(ToolUnreachable, match=r'"stock" = \{ path = "functions/stock" \}'):
        Functions([Binding("other", LOCAL)], Path.cwd()).executor_for(ARN)
    with pytest.raises(ToolUnreachable, match=r"set actionGroupExecutor\.lambda"):
        Functions([Binding("*", LOCAL)], Path.cwd()).executor_for("")


async def test_closing_closes_every_executor(tmp_path, function_call) -> None:
    functions = Functions([Binding("stock", LOCAL)], tmp_path)
    executor = functions.executor_for(ARN)
    await functions.close()
    with pytest.raises(ToolUnreachable, match="the server is stopping"):
        await executor.execute(function_call(), "turn-1/1/0")


async def test_an_object_of_a_folder(tmp_path) -> None:
    (tmp_path / "schemas" / "v1").mkdir(parents=True)
    (tmp_path / "schemas" / "v1" / "stock.yaml").write_bytes(b"openapi: 3.0.0")
    buckets = [Binding("schemas-*", {"path": "schemas"})]
    assert await bucket_object(buckets, tmp_path, "schemas-eu", "v1/stock.yaml") == b"openapi: 3.0.0"


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("missing.yaml", "s3://schemas/missing.yaml does not exist"),
        ("../secret.txt", "leads out of the bucket"),
        ("v1/../../secret.txt", "leads out of the bucket"),
        ("/etc/hostname", "leads out of the bucket"),
        ("link.txt", "leads out of the bucket"),
        ("v1", "Is a directory"),
        ("a\0b", "null"),
        ("circle", "links"),
        ("large", "larger than"),
        ("x" * 5000, "File name too long"),
    ],
)
async def test_an_object_that_cannot_be_read(tmp_path, key, told) -> None:
    folder = tmp_path / "schemas"
    (folder / "v1").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "circle").symlink_to("circle")
    with (folder / "large").open("wb") as large:
        large.truncate(MAX_OBJECT_BYTES + 1)
    with pytest.raises(ObjectUnreadable, match=told):
        await bucket_object([Binding("schemas", {"path": "schemas"})], tmp_path, "schemas", key)


async def test_a_bucket_nobody_bound(tmp_path) -> None:
    with pytest.raises(ObjectUnreadable, match=r'add one, for example "b" = \{ path = "b" \}'):
        await bucket_object([], tmp_path, "b", "k")
    with pytest.raises(ObjectUnreadable, match="neither `path` nor `endpoint_url`"):
        await bucket_object([Binding("*", {"region": "x"})], tmp_path, "b", "k")


async def test_an_object_of_an_endpoint(tmp_path) -> None:
    async def get_object(request: web.Request) -> web.Response:
        assert request.headers["Authorization"].startswith("AWS4-HMAC-SHA256")
        if request.path == "/schemas/v1/stock.yaml":
            return web.Response(body=b"openapi: 3.0.0")
        return web.Response(status=404, text="<Error><Code>NoSuchKey</Code><Message>none</Message></Error>")

    app = web.Application()
    app.router.add_get("/{path:.*}", get_object)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    buckets = [Binding("*", {"endpoint_url": f"http://127.0.0.1:{runner.addresses[0][1]}"})]
    assert await bucket_object(buckets, tmp_path, "schemas", "v1/stock.yaml") == b"openapi: 3.0.0"
    with pytest.raises(ObjectUnreadable, match="s3://schemas/other: the bucket's endpoint answered NoSuchKey"):
        await bucket_object(buckets, tmp_path, "schemas", "other")
    await runner.cleanup()


@pytest.mark.parametrize("address", ["http://anna:hunter2@127.0.0.1:{port}", "anna:hunter2@nowhere"])
async def test_an_endpoint_that_fails_is_named_in_the_log_only_and_its_password_nowhere(
    tmp_path, caplog, address
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    buckets = [Binding("*", {"endpoint_url": address.format(port=port)})]
    with pytest.raises(ObjectUnreadable) as raised:
        await bucket_object(buckets, tmp_path, "schemas", "any")
    assert str(raised.value) == "s3://schemas/any: the bucket's endpoint could not be reached"
    assert "s3://schemas/any cannot be read: " in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"pat": "here"}, "[buckets] 'schemas': unknown key 'pat'; did you mean 'path'?"),
        ({"endpoint": "http://s3"}, "[buckets] 'schemas': unknown key 'endpoint'; did you mean 'endpoint_url'?"),
        ({}, "[buckets] 'schemas' needs one of `path` and `endpoint_url`"),
        ({"path": "here", "endpoint_url": "http://s3"}, "[buckets] 'schemas' needs one of"),
        ({"path": 3}, "[buckets] 'schemas': path = 3 is no text"),
        ({"path": "nowhere"}, "/nowhere is no folder"),
        ({"path": "file"}, "/file is no folder"),
        ({"endpoint_url": "s3.internal:9000"}, "[buckets] 'schemas': endpoint_url is no http:// or https:// address"),
        ({"endpoint_url": "http://"}, "endpoint_url is no http:// or https:// address"),
        ({"endpoint_url": "http://ann:s3cret[@s3"}, "endpoint_url is no http:// or https:// address"),
    ],
)
def test_a_bucket_that_cannot_be_used_shows_at_the_start(tmp_path, settings, told) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigMistake) as error:
        check_buckets([Binding("*-ok", {"path": "here"}), Binding("schemas", settings)], tmp_path)
    assert told in str(error.value)
    assert "s3cret" not in str(error.value)


def test_buckets_that_can_be_used(tmp_path) -> None:
    (tmp_path / "here").mkdir()
    remote = {"endpoint_url": "http://s3.internal:9000", "region": "eu-west-1"}
    check_buckets(
        [Binding("a", {"path": "here"}), Binding("b", {"path": str(tmp_path)}), Binding("*", remote)], tmp_path
    )
