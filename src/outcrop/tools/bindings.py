"""What a Lambda ARN or an S3 bucket stands for here, as sections [functions] and [buckets] say.

    arn:aws:lambda:...:function:inventory  --Functions.executor_for--> Executor
    s3://schemas/stock.yaml                --bucket_object-----------> bytes

The performer asks for executors, the operations read schemas. One executor serves all calls
of one binding; nothing is started or connected before its first call.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from outcrop import plugins
from outcrop.config import Binding, ConfigMistake, bound, check_keys
from outcrop.errors import RoomError
from outcrop.tools._lambda_arn import lambda_name
from outcrop.tools.base import Executor, ToolUnreachable

SEAM = "outcrop.tools.executors"
MAX_OBJECT_BYTES = 10_000_000
LOG = logging.getLogger("outcrop.tools")
_OF_A_BUCKET = ("path", "endpoint_url", "region")
_USER_INFO = re.compile(r"[^/\s\"]*@")


class ObjectUnreadable(RoomError):
    """An object of a bucket could not be read; the message says why, and may be shown to a client."""


class Functions:
    """The executors of one configuration."""

    def __init__(self, bindings: Sequence[Binding], root: Path) -> None:
        """Keep the bindings; root is the folder that relative paths start from."""
        self._bindings = tuple(bindings)
        self._root = root
        self._executors: dict[str, Executor] = {}

    def executor_for(self, lambda_arn: str) -> Executor:
        """The executor of the first binding whose glob matches the ARN, the ARN without qualifier, or the name.

        Errors: ToolUnreachable when no binding matches, or the binding cannot be used.
        """
        target = lambda_name(lambda_arn)
        if not target.name:
            raise ToolUnreachable("the action group has no Lambda function; set actionGroupExecutor.lambda")
        binding = bound(self._bindings, target.arn, target.unqualified, target.name)
        if binding is None:
            raise ToolUnreachable(
                f"no binding of [functions] matches {lambda_arn}; add one, for example "
                f'"{target.name}" = {{ path = "functions/{target.name}" }}'
            )
        return self._executor(binding)

    def honours_keys(self, lambda_arn: str) -> bool:
        """Whether the function's binding says `idempotent = true`: a call repeated with its key takes effect once."""
        target = lambda_name(lambda_arn)
        binding = bound(self._bindings, target.arn, target.unqualified, target.name)
        return binding is not None and binding.settings.get("idempotent") is True

    def check(self) -> None:
        """Build every bound executor, so that a mistake shows when the server starts; none starts a process yet.

        Errors: ToolUnreachable naming the first binding that cannot be used.
        """
        for binding in self._bindings:
            self._executor(binding)

    async def close(self) -> None:
        """Close every executor."""
        executors = list(self._executors.values())
        self._executors.clear()
        await asyncio.gather(*(executor.close() for executor in executors))

    def _executor(self, binding: Binding) -> Executor:
        if binding.pattern not in self._executors:
            self._executors[binding.pattern] = self._build(binding)
        return self._executors[binding.pattern]

    def _build(self, binding: Binding) -> Executor:
        idempotent = binding.settings.get("idempotent", False)
        if not isinstance(idempotent, bool):
            raise ToolUnreachable(
                f"[functions] '{binding.pattern}': idempotent = {idempotent!r} is neither true nor false"
            )
        kind = binding.settings.get("kind", "local_function" if "path" in binding.settings else None)
        if not isinstance(kind, str):
            raise ToolUnreachable(f"[functions] '{binding.pattern}' says neither `path` nor `kind`")
        try:
            return cast(Executor, plugins.load(SEAM, kind, "executor")(binding, self._root))
        except plugins.UnknownPlugin as error:
            known = ", ".join(plugins.names(SEAM))
            raise ToolUnreachable(f"[functions] '{binding.pattern}': no kind '{kind}'; there are {known}") from error
        except (ConfigMistake, ImportError) as error:
            raise ToolUnreachable(str(error)) from error


def check_buckets(buckets: Sequence[Binding], root: Path) -> None:
    """Nothing, where every binding of [buckets] can be used, so that a mistake shows when the server starts.

    Errors: ConfigMistake naming the first one that cannot. The address of an endpoint may hold a password, and is not
            repeated.
    """
    for binding in buckets:
        place, settings = f"[buckets] '{binding.pattern}'", binding.settings
        check_keys(place, settings, _OF_A_BUCKET)
        for key, value in settings.items():
            if not isinstance(value, str):
                raise ConfigMistake(f"{place}: {key} = {value!r} is no text")
        if ("path" in settings) == ("endpoint_url" in settings):
            raise ConfigMistake(f"{place} needs one of `path` and `endpoint_url`")
        if "path" in settings and not (root / settings["path"]).is_dir():
            raise ConfigMistake(f"{place}: path: {root / settings['path']} is no folder")
        if "endpoint_url" in settings and not _is_address(settings["endpoint_url"]):
            raise ConfigMistake(f"{place}: endpoint_url is no http:// or https:// address")


def _is_address(written: str) -> bool:
    try:
        parts = urlsplit(written)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


async def bucket_object(buckets: Sequence[Binding], root: Path, bucket: str, key: str) -> bytes:
    """The bytes of an object, from the folder or the S3 endpoint that its bucket is bound to.

    Errors: ObjectUnreadable when no binding matches, the object is missing, too large, or its key leads
            out of the folder. An endpoint is not named in it: its address is for the log.
    """
    binding = bound(buckets, bucket)
    where = f"s3://{bucket}/{key}"
    if binding is None:
        raise ObjectUnreadable(
            f'{where}: no binding of [buckets] matches; add one, for example "{bucket}" = {{ path = "{bucket}" }}'
        )
    folder, endpoint_url = binding.settings.get("path"), binding.settings.get("endpoint_url")
    if isinstance(folder, str):
        return await asyncio.to_thread(_from_folder, root / folder, key, where)
    if isinstance(endpoint_url, str):
        return await asyncio.to_thread(_from_endpoint, binding.settings, bucket, key, where)
    raise ObjectUnreadable(f"{where}: [buckets] '{binding.pattern}' says neither `path` nor `endpoint_url`")


def _from_folder(folder: Path, key: str, where: str) -> bytes:
    try:
        home = folder.resolve()
        path = (home / key).resolve()
        if not path.is_relative_to(home):
            raise ObjectUnreadable(f"{where}: the key leads out of the bucket")
        with path.open("rb") as opened:
            return _whole(opened.read(MAX_OBJECT_BYTES + 1), where)
    except FileNotFoundError as error:
        raise ObjectUnreadable(f"{where} does not exist") from error
    except OSError as error:
        raise ObjectUnreadable(f"{where}: {error.strerror}") from error
    except ValueError as error:  # a null character in the key
        raise ObjectUnreadable(f"{where}: {error}") from error
    except RuntimeError as error:  # how Python before 3.13 says it; later ones raise OSError
        raise ObjectUnreadable(f"{where}: its links lead in a circle") from error


def _from_endpoint(settings: Mapping[str, Any], bucket: str, key: str, where: str) -> bytes:
    import boto3  # heavy, and only schemas in remote buckets need it
    from botocore import exceptions
    from botocore.config import Config

    config = Config(
        s3={"addressing_style": "path"}, retries={"total_max_attempts": 2}, connect_timeout=5, read_timeout=30
    )
    session = boto3.Session(region_name=str(settings.get("region", "us-east-1")))
    credentials: dict[str, str] = {}
    if session.get_credentials() is None:
        credentials = {"aws_access_key_id": "outcrop", "aws_secret_access_key": "outcrop"}
    try:
        make = cast(Any, session).client
        with closing(make("s3", endpoint_url=settings["endpoint_url"], config=config, **credentials)) as client:
            return _whole(client.get_object(Bucket=bucket, Key=key)["Body"].read(MAX_OBJECT_BYTES + 1), where)
    except exceptions.ClientError as error:
        code = cast(Mapping[str, Any], error.response).get("Error", {}).get("Code")
        raise ObjectUnreadable(f"{where}: the bucket's endpoint answered {code}") from error
    except (exceptions.BotoCoreError, exceptions.HTTPClientError, OSError, ValueError) as error:
        # A ValueError is an endpoint_url that is no address; all of these repeat the address.
        LOG.warning("%s cannot be read: %s", where, _USER_INFO.sub("***@", str(error)))
        raise ObjectUnreadable(f"{where}: the bucket's endpoint could not be reached") from None


def _whole(data: bytes, where: str) -> bytes:
    if len(data) > MAX_OBJECT_BYTES:
        raise ObjectUnreadable(f"{where} is larger than {MAX_OBJECT_BYTES} bytes")
    return data
