"""Lambda functions behind any endpoint that speaks Lambda's Invoke call.

    execute --> [a thread] --> POST /2015-03-31/functions/{name}/invocations --> ToolResult

AWS itself, LocalStack, moto, SAM's local endpoint and the like. A call is sent once: retries
are off, because a function that was called twice in silence is worse than an error.
"""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import orjson

from outcrop.config import Binding, check_keys
from outcrop.tools._lambda_arn import LambdaName, lambda_name
from outcrop.tools.base import IdempotencyKey, ToolCall, ToolCrashed, ToolResult, ToolTimedOut, ToolUnreachable
from outcrop.tools.executors import _settings
from outcrop.tools.lambda_event import MAX_RESPONSE_BYTES, event_of, result_of_payload

SETTINGS: Mapping[str, str] = {
    "kind": "`aws_lambda`",
    "endpoint_url": "where Invoke is answered; default AWS",
    "region": "region to sign for; default the one in the function's ARN",
    "idempotent": "whether a call repeated with its idempotency key takes effect once, so that it may be made again"
    " after a crash; default false",
    "timeout_s": "seconds to wait for an answer; default 60",
    "concurrency": "calls at the same time; default 16",
    "max_response_bytes": "largest response; default Lambda's 6 MB",
}
_CONNECT_TIMEOUT_S = 5.0
_DETAIL_BYTES = 20_000
_STAND_IN = "outcrop"
"""Credentials for an endpoint of one's own, where the environment has none: something must be signed."""


def executor(binding: Binding, root: Path) -> AwsLambda:
    """The executor of one binding; connects with the first call.

    Errors: ConfigMistake when a setting is unknown or of the wrong type.
    """
    check_keys(_settings.place(binding), binding.settings, SETTINGS)
    return AwsLambda(binding)


class AwsLambda:
    """Invokes functions through boto3 in threads of its own, one client per region."""

    def __init__(self, binding: Binding) -> None:
        """Read the settings.

        Errors: ConfigMistake.
        """
        self._place = _settings.place(binding)
        self._endpoint_url = _settings.text(binding, "endpoint_url")
        self._region = _settings.text(binding, "region")
        self._timeout_s = _settings.seconds(binding, "timeout_s", 60)
        self._concurrency = _settings.count(binding, "concurrency", 16)
        self._max_bytes = _settings.count(binding, "max_response_bytes", MAX_RESPONSE_BYTES)
        self._threads = ThreadPoolExecutor(self._concurrency, thread_name_prefix="aws_lambda")
        self._clients: dict[str, Any] = {}
        self._building = threading.Lock()
        self._is_closed = False

    async def execute(self, call: ToolCall, key: IdempotencyKey) -> ToolResult:
        """What the function answered. The key travels in the client context, as `custom.idempotencyKey`.

        Errors: ToolUnreachable when the function, the permission or the connection is missing; ToolTimedOut;
                ToolCrashed when the function reports an error; ToolAnsweredBadly.
        """
        if self._is_closed:
            raise ToolUnreachable(f"{self._place} is closed: the server is stopping")
        target = lambda_name(call.tool.lambda_arn)
        event = orjson.dumps(event_of(call))
        loop = asyncio.get_running_loop()
        payload = await loop.run_in_executor(self._threads, self._invoke, target, event, key)
        return result_of_payload(call, payload, self._max_bytes)

    async def close(self) -> None:
        """Give back the connections; calls under way end in their threads, calls that wait are dropped."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for client in self._clients.values():
            client.close()

    def _invoke(self, target: LambdaName, event: bytes, key: IdempotencyKey) -> bytes:
        from botocore import exceptions  # heavy, and only these calls need it

        context = base64.b64encode(orjson.dumps({"custom": {"idempotencyKey": key}})).decode()
        ask: dict[str, Any] = {"Payload": event, "ClientContext": context, "InvocationType": "RequestResponse"}
        try:
            response = self._client(target).invoke(**self._address(target), **ask)
            payload = cast(bytes, response["Payload"].read(self._max_bytes + 1))
        except (exceptions.ReadTimeoutError, exceptions.ConnectTimeoutError) as error:
            raise ToolTimedOut(f"{target.name} did not answer within {self._timeout_s:g} s") from error
        except exceptions.ClientError as error:
            detail = cast(Mapping[str, Any], error.response).get("Error", {})
            raise ToolUnreachable(f"{target.name}: {detail.get('Code')}: {detail.get('Message')}") from error
        except (exceptions.BotoCoreError, exceptions.HTTPClientError, OSError) as error:
            raise ToolUnreachable(f"{target.name}: its endpoint could not be reached", str(error)) from error
        if response.get("FunctionError"):
            raise _function_error(target, str(response["FunctionError"]), payload)
        return payload

    def _address(self, target: LambdaName) -> dict[str, str]:
        """AWS is asked by ARN, which also names the account; other endpoints by name, which all of them know."""
        if not self._endpoint_url:
            return {"FunctionName": target.arn}
        return {"FunctionName": target.name, **({"Qualifier": target.qualifier} if target.qualifier else {})}

    def _client(self, target: LambdaName) -> Any:
        region = self._region or target.region or "us-east-1"
        with self._building:
            if region not in self._clients:
                self._clients[region] = self._build(region)
            return self._clients[region]

    def _build(self, region: str) -> Any:
        import boto3  # heavy, and only these calls need it
        from botocore.config import Config

        session = boto3.Session(region_name=region)
        credentials: dict[str, str] = {}
        if self._endpoint_url and session.get_credentials() is None:
            credentials = {"aws_access_key_id": _STAND_IN, "aws_secret_access_key": _STAND_IN}
        config = Config(
            retries={"total_max_attempts": 1},
            read_timeout=self._timeout_s,
            connect_timeout=min(_CONNECT_TIMEOUT_S, self._timeout_s),
            max_pool_connections=self._concurrency,
        )
        make = cast(Any, session).client
        return make("lambda", endpoint_url=self._endpoint_url or None, config=config, **credentials)


def _function_error(target: LambdaName, kind: str, payload: bytes) -> ToolCrashed | ToolTimedOut:
    detail = payload[:_DETAIL_BYTES].decode(errors="replace")
    if "Task timed out after" in detail:
        return ToolTimedOut(f"{target.name} ran into its own time limit")
    return ToolCrashed(f"{target.name}: {kind}", detail)
