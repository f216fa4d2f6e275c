"""The program that runs one Python Lambda handler in its own process, call after call.

    server  --- frame: length, {"event", "context"} ---------------->  worker
            <-- frame: length, kind, payload -----------------------

`local_function` starts it as a script with one argument, a JSON object: fd, folder, handler,
max_bytes. It imports the standard library only, and little of it, so that a process starts
fast; it leaves `outcrop` alone, so that a handler sees what it would see at AWS.

Kinds: S the handler is loaded, F it could not be loaded, R its result, E its error.
"""

from __future__ import annotations

import _thread
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

Handler = Callable[[Any, Any], Any]

_START = time.strftime("%Y/%m/%d")


class HandlerMissing(Exception):
    """The module has no such function."""


class Part:
    """An object that holds the attributes it is given, as Lambda's context parts do."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __repr__(self) -> str:
        return f"LambdaContext({self.__dict__!r})"


class Context(Part):
    """What a handler gets as its second argument."""

    deadline: float

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the time limit, at least 0."""
        return max(0, int((self.deadline - time.monotonic()) * 1000))

    def log(self, message: object) -> None:
        """Write a message to the function's log."""
        sys.stdout.write(str(message))


def context_of(given: dict[str, Any]) -> Context:
    """Lambda's context object for one call.

    Shapes: {"requestId", "name", "version", "arn", "memory", "remaining_ms", "custom", "stream"} -> Context.
    """
    return Context(
        aws_request_id=given["requestId"],
        function_name=given["name"],
        function_version=given["version"],
        invoked_function_arn=given["arn"],
        memory_limit_in_mb=str(given["memory"]),
        log_group_name=f"/aws/lambda/{given['name']}",
        log_stream_name=f"{_START}/[{given['version']}]{given['stream']}",
        client_context=Part(custom=given["custom"], env={}, client=None),
        identity=Part(cognito_identity_id=None, cognito_identity_pool_id=None),
        deadline=time.monotonic() + given["remaining_ms"] / 1000,
    )


def load(folder: str, name: str) -> Handler:
    """The handler "package/module.function" of a folder.

    Errors: what importing raises; HandlerMissing.
    """
    module_name, _, function = name.rpartition(".")
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    sys.argv = [module_name]
    module = __import__(module_name.replace("/", "."), fromlist=[function])
    found = getattr(module, function, None)
    if not callable(found):
        raise HandlerMissing(f"Handler '{function}' missing on module '{module_name}'")
    return found


def failure(error: BaseException, kind: str = "", message: str = "") -> bytes:
    """An error as Lambda reports it.

    Shapes: JSON {"errorType", "errorMessage", "stackTrace": [...]}.
    """
    import traceback  # only a failure needs it, and it would slow down every start

    told = {
        "errorType": kind or type(error).__name__,
        "errorMessage": message or str(error),
        "stackTrace": traceback.format_tb(error.__traceback__),
    }
    return json.dumps(told).encode()


def load_failure(error: BaseException, handler: str) -> bytes:
    """Why a handler could not be loaded, in Lambda's words."""
    module = handler.rpartition(".")[0]
    if isinstance(error, HandlerMissing):
        return failure(error, "Runtime.HandlerNotFound")
    if isinstance(error, SyntaxError):
        return failure(error, "Runtime.UserCodeSyntaxError", f"Syntax error in module '{module}': {error}")
    if isinstance(error, ImportError):
        return failure(error, "Runtime.ImportModuleError", f"Unable to import module '{module}': {error}")
    return failure(error)


def answer(handler: Handler, event: Any, context: Context, max_bytes: int) -> tuple[bytes, bytes]:
    """What one call came to: kind R and the result's JSON, or kind E and the error's."""
    try:
        result = handler(event, context)
    except Exception as error:
        return b"E", failure(error)
    try:
        payload = json.dumps(result, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        return b"E", failure(error, "Runtime.MarshalError", f"Unable to marshal response: {error}")
    if len(payload) > max_bytes:
        told = (
            f"Response payload size ({len(payload)} bytes) exceeded maximum allowed payload size ({max_bytes} bytes)."
        )
        return b"E", json.dumps({"errorType": "Function.ResponseSizeTooLarge", "errorMessage": told}).encode()
    return b"R", payload


def receive(fd: int, size: int) -> bytes:
    """The next bytes of the channel, exactly that many; the process ends when the server is gone."""
    pieces: list[bytes] = []
    while size:
        piece = os.read(fd, min(size, 1 << 20))
        if not piece:
            os._exit(0)
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def send(fd: int, kind: bytes, payload: bytes = b"") -> None:
    """One frame to the server, whole."""
    frame = memoryview((len(payload) + 1).to_bytes(4, "big") + kind + payload)
    while frame:
        frame = frame[os.write(fd, frame) :]


def watch(fd: int) -> None:
    """Wait until the server is gone, then end this process and everything it started."""
    poll = select.poll()
    poll.register(fd, 0)  # hang-ups are told without being asked for
    poll.poll()
    os.killpg(0, signal.SIGKILL)


def prepare_logging() -> None:
    """Let log records reach the output as at AWS, where a handler module uses logging at all."""
    logging: Any = sys.modules.get("logging")
    if logging is not None and not logging.root.handlers:
        output = logging.StreamHandler(sys.stdout)
        output.setFormatter(logging.Formatter("[%(levelname)s]\t%(asctime)s\t%(message)s"))
        logging.root.addHandler(output)


def serve(options: dict[str, Any]) -> None:
    """Load the handler, then answer calls until the server hangs up."""
    fd, me = int(options["fd"]), os.getpid()
    os.set_inheritable(fd, False)
    _thread.start_new_thread(watch, (fd,))
    try:
        handler = load(options["folder"], options["handler"])
    except Exception as error:
        send(fd, b"F", load_failure(error, options["handler"]))
        return
    prepare_logging()
    send(fd, b"S")
    while True:
        ask = json.loads(receive(fd, int.from_bytes(receive(fd, 4), "big")))
        os.environ["AWS_LAMBDA_FUNCTION_NAME"] = ask["context"]["name"]
        kind, payload = answer(handler, ask["event"], context_of(ask["context"]), options["max_bytes"])
        sys.stdout.flush()
        if os.getpid() != me:
            os._exit(0)  # a child that the handler forked came back through here; only the parent answers
        send(fd, kind, payload)


def main() -> None:
    """Serve as the argument says; an exit that the handler asks for does not wait for its threads."""
    output: Any = sys.stdout
    output.reconfigure(line_buffering=True)
    try:
        serve(json.loads(sys.argv[1]))
    except SystemExit as leaving:
        sys.stdout.flush()
        os._exit(leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None))


if __name__ == "__main__":
    main()
