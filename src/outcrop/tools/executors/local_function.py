"""Lambda handlers in Python on this host, in warm processes of their own.

    execute --> [wait for one of `concurrency` turns, first come first served]
            --> [an idle process, or a new one] --event--> handler(event, context) --> ToolResult

A process imports the handler once and serves call after call. One that crashes, overruns its
time limit or whose caller went away is killed with its children, and the next call gets a
fresh one. Handlers see an environment of their own, not the server's.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import orjson

from outcrop.config import Binding, ConfigMistake, check_keys
from outcrop.ids import request_id
from outcrop.tools._lambda_arn import LambdaName, lambda_name
from outcrop.tools.base import (
    IdempotencyKey,
    ToolAnsweredBadly,
    ToolCall,
    ToolCrashed,
    ToolError,
    ToolResult,
    ToolTimedOut,
    ToolUnreachable,
)
from outcrop.tools.executors import _settings
from outcrop.tools.executors._process import Frame, Launch, Worker, WorkerGone, start
from outcrop.tools.lambda_event import MAX_RESPONSE_BYTES, event_of, result_of_payload

SETTINGS: Mapping[str, str] = {
    "kind": "`local_function`; may be left out where `path` is given",
    "path": "folder of the handler's code, relative to the configuration file",
    "handler": "`module.function`, as Lambda writes it; default `app.handler`",
    "idempotent": "whether a call repeated with its idempotency key takes effect once, so that it may be made again"
    " after a crash; default false",
    "timeout_s": "seconds per call before the process is killed; default 30",
    "start_timeout_s": "seconds that importing the handler may take; default 10",
    "concurrency": "processes at the same time; default 4",
    "memory_mb": "what the context reports as the function's memory; not enforced; default 128",
    "environment": "variables of the handler's process",
    "pass_environment": "names of the server's variables that the handler may see",
    "python": "interpreter to run the handler with; default the server's own",
    "max_response_bytes": "largest response; default Lambda's 6 MB",
}
_PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""What a handler sees of the server's environment: nothing that could be a secret."""
_VERSION = "$LATEST"


def executor(binding: Binding, root: Path) -> LocalFunction:
    """The executor of one binding; starts no process before its first call.

    Errors: ConfigMistake when a setting is unknown or of the wrong type, the handler is no `module.function`, or the
            folder does not exist.
    """
    check_keys(_settings.place(binding), binding.settings, SETTINGS)
    return LocalFunction(binding, root)


class LocalFunction:
    """Runs the calls of one binding in at most `concurrency` processes."""

    def __init__(self, binding: Binding, root: Path) -> None:
        """Read the settings.

        Errors: ConfigMistake, for a handler or a folder that cannot be, too.
        """
        self._place = _settings.place(binding)
        self._folder = (root / (_settings.text(binding, "path") or ".")).resolve()
        if not self._folder.is_dir():
            raise ConfigMistake(f"{self._place}: path: there is no folder {self._folder}")
        self._handler = _settings.text(binding, "handler", "app.handler")
        module, _, function = self._handler.rpartition(".")
        if not (module and function):
            raise ConfigMistake(f"{self._place}: handler = {self._handler!r} is no `module.function`")
        self._timeout_s = _settings.seconds(binding, "timeout_s", 30)
        self._start_timeout_s = _settings.seconds(binding, "start_timeout_s", 10)
        self._memory_mb = _settings.count(binding, "memory_mb", 128)
        self._max_bytes = _settings.count(binding, "max_response_bytes", MAX_RESPONSE_BYTES)
        self._python = _settings.text(binding, "python")
        self._given = _settings.table(binding, "environment")
        self._passed = (*_PASSED, *_settings.names(binding, "pass_environment"))
        self._turns = asyncio.Semaphore(_settings.count(binding, "concurrency", 4))
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._ending: set[asyncio.Task[str]] = set()
        self._is_closed = False

    async def execute(self, call: ToolCall, key: IdempotencyKey) -> ToolResult:
        """What the handler answered. The key reaches it as `context.client_context.custom["idempotencyKey"]`.

        Errors: ToolUnreachable when the folder or the interpreter is missing; ToolTimedOut; ToolCrashed
                when the handler raises, cannot be imported, or its process ends; ToolAnsweredBadly.
        """
        target = lambda_name(call.tool.lambda_arn)
        async with self._turns:
            worker = await self._take(target)
            is_sound = False
            try:
                kind, payload = await self._ask(worker, self._question(call, key, target, worker))
                is_sound = kind in (b"R", b"E")
            except WorkerGone as error:
                raise await self._crash(worker, target) from error
            finally:
                self._give_back(worker, is_sound=is_sound)
        return self._result(call, target, (kind, payload))

    async def close(self) -> None:
        """Kill every process, calls under way too, and wait until they are gone."""
        self._is_closed = True
        for worker in (*self._idle, *self._busy):
            self._end(worker)
        self._idle.clear()
        await asyncio.gather(*self._ending)

    async def _take(self, target: LambdaName) -> Worker:
        if self._is_closed:
            raise ToolUnreachable(f"{self._place} is closed: the server is stopping")
        while self._idle:
            worker = self._idle.pop()
            if worker.is_usable:
                self._busy.add(worker)
                return worker
            self._end(worker)
        return await self._start(target)

    async def _start(self, target: LambdaName) -> Worker:
        if not self._folder.is_dir():
            raise ToolUnreachable(f"{self._place}: its folder does not exist", f"no folder {self._folder}")
        launch = Launch(
            folder=self._folder,
            handler=self._handler,
            environment=self._environment(target),
            max_bytes=self._max_bytes,
            label=target.name,
            python=self._python or sys.executable,
        )
        try:
            worker = await start(launch)
        except OSError as error:
            raise ToolUnreachable(f"{self._place}: no process could be started: {error.strerror}") from error
        self._busy.add(worker)
        is_sound = False
        try:
            async with asyncio.timeout(self._start_timeout_s):
                kind, payload = await worker.loaded()
            is_sound = kind == b"S"
        except TimeoutError as error:
            raise ToolTimedOut(f"{target.name} did not start within {self._start_timeout_s:g} s") from error
        except WorkerGone as error:
            raise await self._crash(worker, target) from error
        finally:
            if not is_sound:
                self._give_back(worker, is_sound=False)
        if kind != b"S":
            raise _unhandled(target, payload)
        return worker

    async def _ask(self, worker: Worker, question: bytes) -> Frame:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await worker.ask(question)
        except TimeoutError as error:
            raise ToolTimedOut(f"Task timed out after {self._timeout_s:.2f} seconds") from error

    def _question(self, call: ToolCall, key: IdempotencyKey, target: LambdaName, worker: Worker) -> bytes:
        context = {
            "requestId": request_id(),
            "name": target.name,
            "version": _VERSION,
            "arn": target.arn,
            "memory": self._memory_mb,
            "remaining_ms": self._timeout_s * 1000,
            "custom": {"idempotencyKey": key},
            "stream": f"{worker.pid:032x}",
        }
        return orjson.dumps({"event": event_of(call), "context": context})

    def _result(self, call: ToolCall, target: LambdaName, frame: Frame) -> ToolResult:
        kind, payload = frame
        if kind == b"R":
            return result_of_payload(call, payload, self._max_bytes)
        if kind == b"E":
            raise _unhandled(target, payload)
        raise ToolAnsweredBadly(f"{target.name} wrote into the channel of its process")

    def _give_back(self, worker: Worker, *, is_sound: bool) -> None:
        self._busy.discard(worker)
        if is_sound and worker.is_usable and not self._is_closed:
            self._idle.append(worker)
        else:
            self._end(worker)

    def _end(self, worker: Worker) -> None:
        worker.kill()
        ending = asyncio.ensure_future(worker.gone())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _crash(self, worker: Worker, target: LambdaName) -> ToolError:
        """The error of a process that ended by itself, told with how it ended and what it printed last."""
        worker.kill()
        how = await worker.gone()
        told = {"errorType": "Runtime.ExitError", "errorMessage": f"Runtime exited with error: {how}"}
        return _unhandled(target, orjson.dumps({**told, "output": worker.last_words}))

    def _environment(self, target: LambdaName) -> dict[str, str]:
        region = target.region or "us-east-1"
        return {
            **{name: os.environ[name] for name in self._passed if name in os.environ},
            "PYTHONPATH": str(self._folder),
            "PYTHONIOENCODING": "utf-8",
            "LAMBDA_TASK_ROOT": str(self._folder),
            "AWS_LAMBDA_FUNCTION_NAME": target.name,
            "AWS_LAMBDA_FUNCTION_VERSION": _VERSION,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self._memory_mb),
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "_HANDLER": self._handler,
            **self._given,
        }


def _unhandled(target: LambdaName, error: bytes) -> ToolCrashed:
    """Lambda tells a caller no more than this; type, message and stack trace are the detail."""
    return ToolCrashed(f"{target.name}: Unhandled", error.decode(errors="replace"))
