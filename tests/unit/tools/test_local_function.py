"""Handlers in processes of their own: what they see, and what happens when they misbehave."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

from outcrop.config import Binding, ConfigMistake
from outcrop.testing.conformance.executors import Door
from outcrop.tools.base import IdempotencyKey, ToolAnsweredBadly, ToolCrashed, ToolTimedOut, ToolUnreachable
from outcrop.tools.executors.local_function import executor

KEY = IdempotencyKey("turn-1/2/0")
REPLY = """
def reply(event, body):
    told = {"responseBody": {"TEXT": {"body": body}}}
    return {"response": {"actionGroup": "stock", "function": "count", "functionResponse": told}}
"""
DO = """
import os, signal, socket, sys

def handler(event, context):
    return reply(event, str(eval(event["parameters"][0]["value"], globals() | {"context": context, "event": event})))
"""
"""A handler that does what its parameter says."""


@pytest.fixture
def do(function_call):
    """A call of the handler DO."""
    return lambda code: function_call({"sku": code})


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def until_gone(pid: int) -> None:
    """Return once the process is gone, however it is related to us."""
    with_descriptor = asyncio.Event()
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    asyncio.get_running_loop().add_reader(descriptor, with_descriptor.set)
    await with_descriptor.wait()
    asyncio.get_running_loop().remove_reader(descriptor)
    os.close(descriptor)


async def test_a_process_is_kept_warm(run, function_call) -> None:
    local = run(
        """
        import os
        calls = []
        def handler(event, context):
            calls.append(1)
            return reply(event, f"{os.getpid()} {len(calls)}")
        """
    )
    first, second = [(await local.execute(function_call(), KEY)).text.split() for _ in range(2)]
    assert first[0] == second[0]
    assert (first[1], second[1]) == ("1", "2")


async def test_the_context_is_lambdas(run, function_call) -> None:
    local = run(
        """
        import json
        def handler(event, context):
            return reply(event, json.dumps({
                "name": context.function_name, "version": context.function_version,
                "arn": context.invoked_function_arn, "memory": context.memory_limit_in_mb,
                "request": context.aws_request_id, "group": context.log_group_name,
                "stream": context.log_stream_name, "left": context.get_remaining_time_in_millis(),
                "custom": context.client_context.custom, "identity": context.identity.cognito_identity_id,
            }))
        """,
        timeout_s=7,
        memory_mb=512,
    )
    told = json.loads((await local.execute(function_call(), KEY)).text)
    assert 0 < told.pop("left") <= 7000
    assert len(told.pop("request")) == 36
    assert "[$LATEST]" in told.pop("stream")
    assert told == {
        "name": "stock",
        "version": "$LATEST",
        "arn": "arn:aws:lambda:eu-west-1:123456789012:function:stock:PROD",
        "memory": "512",
        "group": "/aws/lambda/stock",
        "custom": {"idempotencyKey": "turn-1/2/0"},
        "identity": None,
    }


async def test_the_environment_is_the_handlers_own(run, do, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("DATABASE_URL", "sqlite://")
    local = run(DO, environment={"TABLE": "stock", "LEVEL": 3}, pass_environment=["DATABASE_URL", "ABSENT"])
    seen = json.loads((await local.execute(do("__import__('json').dumps(dict(os.environ))"), KEY)).text)
    assert (seen["TABLE"], seen["LEVEL"], seen["DATABASE_URL"]) == ("stock", "3", "sqlite://")
    assert (seen["AWS_REGION"], seen["AWS_LAMBDA_FUNCTION_NAME"]) == ("eu-west-1", "stock")
    assert not {"OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "ABSENT"} & set(seen)


async def test_the_handlers_folder_is_its_home(run, do, tmp_path) -> None:
    (tmp_path / "stock_table.py").write_text("COUNT = 12", encoding="utf-8")
    local = run(DO)
    assert (await local.execute(do("__import__('stock_table').COUNT"), KEY)).text == "12"
    assert (await local.execute(do("os.getcwd()"), KEY)).text == str(tmp_path)
    assert (
        await local.execute(do("'aws_lambda.py' in str(sys.path) or 'outcrop' in sys.modules"), KEY)
    ).text == "False"


async def test_a_handler_in_a_package(tmp_path, function_call) -> None:
    (tmp_path / "code" / "src").mkdir(parents=True)
    answer = "{'response': {'functionResponse': {'responseBody': {'TEXT': {'body': __name__}}}}}"
    source = f"def main(event, context):\n    return {answer}"
    (tmp_path / "code" / "src" / "stock.py").write_text(source, encoding="utf-8")
    local = executor(Binding("stock", {"path": "code", "handler": "src/stock.main"}), tmp_path)
    assert (await local.execute(function_call(), KEY)).text == "src.stock"
    await local.close()


async def test_what_a_handler_prints_goes_to_the_log(run, function_call, caplog) -> None:
    caplog.set_level(logging.INFO, "outcrop.tools.executors.local_function")
    local = run(
        """
        import logging, os, sys
        logging.getLogger().setLevel(logging.INFO)
        def handler(event, context):
            print("counting", event["function"])
            print("on stderr: ä", file=sys.stderr)
            os.write(1, b"R{not a frame}\\n")
            logging.getLogger("mine").info("from a logger")
            print("no newline", end="")
            return reply(event, "12")
        """
    )
    assert (await local.execute(function_call(), KEY)).text == "12"
    await local.close()
    logged = "\n".join(record.getMessage() for record in caplog.records)
    for line in (
        "stock: counting count",
        "stock: on stderr: ä",
        "stock: R{not a frame}",
        "from a logger",
        "no newline",
    ):
        assert line in logged


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("sys.exit(0)", "exit status 0"),
        ("sys.exit(4)", "exit status 4"),
        ("sys.exit('told')", "exit status 1"),
        ("os._exit(3)", "exit status 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "signal: killed"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "signal: segmentation fault"),
        ("os.closerange(3, 100)", "Runtime exited with error"),
    ],
)
async def test_a_process_that_ends_is_a_crash_and_the_next_is_fresh(run, do, code, how) -> None:
    local = run(DO)
    before = (await local.execute(do("os.getpid()"), KEY)).text
    with pytest.raises(ToolCrashed, match="stock: Unhandled") as crash:
        await local.execute(do(f"print('last words', flush=True) or {code}"), KEY)
    told = json.loads(crash.value.detail)
    assert told["errorType"] == "Runtime.ExitError"
    assert how in told["errorMessage"]
    assert "last words" in told["output"]
    assert (await local.execute(do("os.getpid()"), KEY)).text != before


async def test_an_error_keeps_the_process_and_tells_callers_nothing(run, do) -> None:
    local = run(DO)
    before = (await local.execute(do("os.getpid()"), KEY)).text
    with pytest.raises(ToolCrashed) as crash:
        await local.execute(do("{}['password=hunter2']"), KEY)
    assert str(crash.value) == "stock: Unhandled"
    told = json.loads(crash.value.detail)
    assert (told["errorType"], told["errorMessage"]) == ("KeyError", "'password=hunter2'")
    assert any("app.py" in line for line in told["stackTrace"])
    assert (await local.execute(do("os.getpid()"), KEY)).text == before


@pytest.mark.parametrize(
    ("source", "handler", "kind", "message"),
    [
        ("", "app.handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
        ("", "other.handler", "Runtime.ImportModuleError", "Unable to import module 'other': No module named 'other'"),
        ("import missing_library", "app.handler", "Runtime.ImportModuleError", "No module named 'missing_library'"),
        ("def handler(:", "app.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app'"),
        ("1 / 0", "app.handler", "ZeroDivisionError", "division by zero"),
        ("import sys; sys.exit(5)", "app.handler", "Runtime.ExitError", "exit status 5"),
    ],
)
async def test_a_handler_that_cannot_be_loaded(run, function_call, source, handler, kind, message) -> None:
    local = run(source, handler=handler)
    for _ in range(2):
        with pytest.raises(ToolCrashed, match="stock: Unhandled") as crash:
            await local.execute(function_call(), KEY)
        told = json.loads(crash.value.detail)
        assert told["errorType"] == kind
        assert message in told["errorMessage"]


async def test_a_handler_that_imports_for_ever(run, function_call) -> None:
    local = run("import threading; threading.Event().wait()", start_timeout_s=0.2)
    with pytest.raises(ToolTimedOut, match=r"stock did not start within 0\.2 s"):
        await local.execute(function_call(), KEY)


async def test_a_folder_that_vanished_or_a_missing_interpreter(tmp_path, function_call) -> None:
    (tmp_path / "gone").mkdir()
    for settings, told in (
        ({"path": "gone"}, "its folder does not exist"),
        ({"path": ".", "python": "/no/python"}, "No such file"),
    ):
        local = executor(Binding("stock", settings), tmp_path)
        shutil.rmtree(tmp_path / "gone", ignore_errors=True)
        with pytest.raises(ToolUnreachable, match=told) as unreachable:
            await local.execute(function_call(), KEY)
        assert str(tmp_path) not in str(unreachable.value)


def test_a_folder_that_is_not_there_is_named_at_the_start(tmp_path) -> None:
    (tmp_path / "app.py").write_text("", encoding="utf-8")
    for path in ("gone", "app.py"):
        with pytest.raises(ConfigMistake, match=re.escape(f"'stock': path: there is no folder {tmp_path / path}")):
            executor(Binding("stock", {"path": path}), tmp_path)


@pytest.mark.parametrize("handler", ["app", "app.", ".handler", ".", ""])
def test_a_handler_that_is_no_module_and_function_is_named_at_the_start(tmp_path, handler) -> None:
    with pytest.raises(ConfigMistake, match=rf"'stock': handler = '{re.escape(handler)}' is no `module\.function`"):
        executor(Binding("stock", {"path": ".", "handler": handler}), tmp_path)


async def test_an_overrun_kills_the_process_and_its_children(run, do, tmp_path) -> None:
    local = run(DO, timeout_s=0.5, concurrency=1)
    code = (
        "[open('pids', 'w').write(f'{os.getpid()} {__import__(\"subprocess\").Popen([\"sleep\", \"1000\"]).pid}'),"
        " signal.pause()]"
    )
    with pytest.raises(ToolTimedOut, match=r"Task timed out after 0\.50 seconds"):
        await local.execute(do(code), KEY)
    for pid in (tmp_path / "pids").read_text(encoding="ascii").split():
        await until_gone(int(pid))
    assert (await local.execute(do("'next'"), KEY)).text == "next"


async def test_a_forked_child_does_not_answer(run, function_call) -> None:
    local = run(
        """
        import os
        def handler(event, context):
            child = os.fork()
            if child:
                os.waitpid(child, 0)
            return reply(event, "parent" if child else "child")
        """
    )
    for _ in range(3):
        assert (await local.execute(function_call(), KEY)).text == "parent"


async def test_an_answer_of_seven_megabytes(run, do) -> None:
    local = run(DO)
    with pytest.raises(ToolCrashed) as crash:
        await local.execute(do("'x' * 7_000_000"), KEY)
    assert "exceeded maximum allowed payload size (6291556 bytes)" in crash.value.detail
    assert len((await local.execute(do("'ü' * 3_000_000"), KEY)).text) == 3_000_000


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("{1, 2}", ToolCrashed),
        ("(n for n in ())", ToolCrashed),
        ("'\\ud800'", ToolCrashed),
        ("None", ToolAnsweredBadly),
        ("'text'", ToolAnsweredBadly),
        ("float('nan')", ToolAnsweredBadly),
        ("[]", ToolAnsweredBadly),
    ],
)
async def test_answers_outside_the_contract(run, function_call, value, error) -> None:
    local = run(f"def handler(event, context):\n    return {value}")
    for _ in range(2):
        with pytest.raises(error):
            await local.execute(function_call(), KEY)


async def test_fifty_calls_at_concurrency_four(run, do) -> None:
    local = run(DO, concurrency=4)
    calls = [local.execute(do(f"f'{{os.getpid()}} {number}'"), KEY) for number in range(50)]
    answers = [result.text.split() for result in await asyncio.gather(*calls)]
    assert [int(number) for _, number in answers] == list(range(50))
    assert len({pid for pid, _ in answers}) <= 4


async def test_calls_are_served_in_the_order_they_came(run, do, tmp_path) -> None:
    local = run(DO, concurrency=1)
    await asyncio.gather(*(local.execute(do(f"open('order', 'a').write('{n} ')"), KEY) for n in range(10)))
    assert (tmp_path / "order").read_text(encoding="ascii").split() == [str(n) for n in range(10)]


async def test_an_abandoned_call_leaves_no_process_and_no_answer(run, do, tmp_path) -> None:
    local = run(DO, concurrency=1)
    async with Door() as door:
        code = (
            f"[open('pid', 'w').write(str(os.getpid())), socket.create_connection(('127.0.0.1', {door.port})).recv(1)]"
        )
        abandoned = asyncio.ensure_future(local.execute(do(code), KEY))
        waiting = asyncio.ensure_future(local.execute(do("'mine'"), KEY))
        await door.wait_for(1)
        abandoned.cancel()
        with pytest.raises(asyncio.CancelledError):
            await abandoned
        await until_gone(int((tmp_path / "pid").read_text(encoding="ascii")))
        assert (await waiting).text == "mine"


async def test_a_call_abandoned_while_its_process_starts(run, do) -> None:
    local = run(DO, concurrency=1)
    for ticks in range(12):
        abandoned = asyncio.ensure_future(local.execute(do("'old'"), KEY))
        for _ in range(ticks):
            await asyncio.sleep(0)
        abandoned.cancel()
        await asyncio.wait({abandoned})
        assert (await local.execute(do("'new'"), KEY)).text == "new"


async def test_a_process_that_died_while_idle_is_replaced(run, do) -> None:
    local = run(DO)
    pid = int((await local.execute(do("os.getpid()"), KEY)).text)
    os.kill(pid, signal.SIGKILL)
    await until_gone(pid)
    for _ in iter(lambda: bool(local._idle and local._idle[0].is_usable), False):
        await asyncio.sleep(0)  # until the loop has read the hang-up
    assert int((await local.execute(do("os.getpid()"), KEY)).text) != pid


async def test_closing_ends_every_process_and_every_call(run, do, tmp_path) -> None:
    local = run(DO, concurrency=2)
    idle = int((await local.execute(do("os.getpid()"), KEY)).text)
    async with Door() as door:
        under_way = asyncio.ensure_future(
            local.execute(do(f"socket.create_connection(('127.0.0.1', {door.port})).recv(1)"), KEY)
        )
        await door.wait_for(1)
        await local.close()
        with pytest.raises(ToolCrashed):
            await under_way
    assert not is_alive(idle)


def test_all_of_it_on_the_servers_loop(tmp_path, do) -> None:
    """The server runs on uvloop, whose processes and pipes are its own."""
    (tmp_path / "app.py").write_text(REPLY + DO, encoding="utf-8")

    async def story() -> None:
        local = executor(Binding("stock", {"path": ".", "timeout_s": 0.5, "concurrency": 3}), tmp_path)
        answers = await asyncio.gather(*(local.execute(do(f"print({n}) or {n}"), KEY) for n in range(20)))
        assert [result.text for result in answers] == [str(n) for n in range(20)]
        with pytest.raises(ToolCrashed) as crash:
            await local.execute(do("print('last words', flush=True) or os._exit(3)"), KEY)
        assert "exit status 3" in crash.value.detail
        assert "last words" in crash.value.detail
        with pytest.raises(ToolTimedOut):
            await local.execute(do("signal.pause()"), KEY)
        assert len((await local.execute(do("'x' * 3_000_000"), KEY)).text) == 3_000_000
        async with Door() as door:
            abandoned = asyncio.ensure_future(
                local.execute(do(f"socket.create_connection(('127.0.0.1', {door.port})).recv(1)"), KEY)
            )
            await door.wait_for(1)
            abandoned.cancel()
            await door.wait_until_empty()
            assert (await local.execute(do("'mine'"), KEY)).text == "mine"
        pid = int((await local.execute(do("os.getpid()"), KEY)).text)
        await local.close()
        assert not is_alive(pid)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())


SERVER = """
import asyncio, os, signal, sys
from pathlib import Path
from outcrop.config import Binding
from outcrop.tools.base import Caller, Parameter, Tool, ToolCall
from outcrop.tools.executors.local_function import executor

async def main():
    tool = Tool({"name": "n", "description": "", "inputSchema": {}}, "function", "stock", "LAMBDA",
                (Parameter("sku", "string"),), "count", lambda_arn="stock")
    caller = Caller({"name": "a", "id": "A", "alias": "a", "version": "1"}, "s", "hi")
    local = executor(Binding("stock", {"path": "."}), Path.cwd())
    await local.execute(ToolCall(tool, {"sku": "idle"}, caller), "k")
    await asyncio.gather(*(local.execute(ToolCall(tool, {"sku": "busy"}, caller), "k") for _ in range(2)))

asyncio.run(main())
"""


async def test_processes_end_with_a_server_that_is_killed(run, tmp_path) -> None:
    async with Door() as door:
        run(
            f"""
            import os, socket, subprocess
            def handler(event, context):
                with open("pids", "a") as pids:
                    pids.write(f"{{os.getpid()}}\\n")
                if event["parameters"][0]["value"] == "busy":
                    child = subprocess.Popen(["sleep", "1000"])
                    with open("pids", "a") as pids:
                        pids.write(f"{{child.pid}}\\n")
                    socket.create_connection(("127.0.0.1", {door.port})).recv(1)
                return reply(event, "done")
            """
        )
        server = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SERVER, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await door.wait_for(2)
        server.kill()
        await server.wait()
        await door.wait_until_empty()
        for pid in {int(line) for line in (tmp_path / "pids").read_text(encoding="ascii").split()}:
            await until_gone(pid)
