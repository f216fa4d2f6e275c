"""Webhooks against a real receiver: what arrives, and what each way of not taking it becomes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web

from outcrop.config import ConfigMistake
from outcrop.notifications.base import Notice, Refused, Undeliverable
from outcrop.notifications.signing import new_secret, verify
from outcrop.notifications.targets.webhook import target

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def webhook(means, receiver):
    def make(post=None, **settings):
        return target({"url": receiver.url, "secret": SECRET, "allowPrivate": True} | settings, means(**post or {}))

    return make


async def test_a_notice_arrives_signed(webhook, receiver, notice, clock) -> None:
    await webhook().deliver(notice)

    [(headers, body)] = receiver.taken
    assert json.loads(body) == {
        "id": "turn-1:7",
        "type": "turn.completed",
        "timestamp": "2027-01-15T07:59:50.500000Z",
        "data": notice.body,
    }
    assert headers["Content-Type"] == "application/json"
    assert headers["webhook-id"] == "turn-1:7"
    assert headers["webhook-timestamp"] == "1800000000"
    # Checked from the rules, not with our own code.
    key = base64.b64decode(SECRET[len("whsec_") :])
    signed = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert verify(headers, body, SECRET, now=clock.now())["data"]["answer"] == "Twelve are left."


async def test_the_next_attempt_has_the_same_id_and_its_own_time(webhook, receiver, notice, clock) -> None:
    hook = webhook()
    receiver.answers.append(web.Response(status=500))
    with pytest.raises(Undeliverable):
        await hook.deliver(notice)
    clock.advance(60)
    await hook.deliver(notice)

    (first, first_body), (second, second_body) = receiver.taken
    assert first_body == second_body
    assert first["webhook-id"] == second["webhook-id"]
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 60
    verify(second, second_body, SECRET, now=clock.now())


async def test_notices_to_one_receiver_share_a_connection(webhook, receiver, notice) -> None:
    hook = webhook()
    receiver.answers.extend([web.Response(text="x" * 60_000), web.Response(status=500, text="no"), web.Response()])
    for _ in range(3):
        try:
            await hook.deliver(notice)
        except Undeliverable:
            continue
    assert len(receiver.taken) == 3
    assert len(receiver.connections) == 1


async def test_while_secrets_change_both_sign(webhook, receiver, notice, clock) -> None:
    new = new_secret()
    await webhook(secret=new, previousSecret=SECRET).deliver(notice)
    [(headers, body)] = receiver.taken
    assert len(headers["webhook-signature"].split(" ")) == 2
    for known in (new, SECRET):
        verify(headers, body, known, now=clock.now())


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_every_success_is_one(webhook, receiver, notice, status: int) -> None:
    receiver.answers.append(web.Response(status=status))
    await webhook().deliver(notice)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_what_may_change_is_tried_again(webhook, receiver, notice, status: int) -> None:
    receiver.answers.append(web.Response(status=status, text="my database password is hunter2"))
    with pytest.raises(Undeliverable, match=f"http://127.0.0.1:{receiver.port} answered {status}$") as caught:
        await webhook().deliver(notice)
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 422])
async def test_what_will_not_change_is_not(webhook, receiver, notice, status: int) -> None:
    receiver.answers.append(web.Response(status=status, text="my database password is hunter2"))
    with pytest.raises(Refused, match=f"http://127.0.0.1:{receiver.port} answered {status}$") as caught:
        await webhook().deliver(notice)
    assert caught.value.gone == (status == 410)


SENT = datetime(2027, 1, 15, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("asked", "wait_s"),
    [
        ("7", 7),
        ("0", 0),
        ("-5", 0),
        ("99999999", 3600),
        ("inf", 3600),
        ("soon", None),
        (format_datetime(SENT + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(SENT - timedelta(seconds=90), usegmt=True), 0),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_the_receiver_says_when_to_come_back(webhook, receiver, notice, asked, wait_s, status) -> None:
    headers = {"Retry-After": asked, "Date": format_datetime(SENT, usegmt=True)}
    receiver.answers.append(web.Response(status=status, headers=headers))
    with pytest.raises(Undeliverable) as caught:
        await webhook().deliver(notice)
    assert caught.value.retry_after_s == wait_s


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(webhook, receiver, receivers, notice, status: int) -> None:
    elsewhere = await receivers("127.0.0.1")
    receiver.answers.append(web.Response(status=status, headers={"Location": elsewhere.url}))
    with pytest.raises(Undeliverable, match=f"answered {status}: redirects are not followed"):
        await webhook().deliver(notice)
    assert elsewhere.taken == []


async def test_a_receiver_that_never_answers_is_left(webhook, receiver, notice, forever) -> None:
    receiver.answers.append(forever)
    with pytest.raises(Undeliverable, match=r"did not answer within 0\.2 s"):
        await webhook(post={"total_s": 0.2}).deliver(notice)


async def test_an_answer_without_end_is_not_listened_to(webhook, receiver, notice) -> None:
    ended = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65_536)
        finally:
            ended.set()

    receiver.answers.append(stream)
    await webhook().deliver(notice)  # it said 200, which is all there is to know
    await asyncio.wait_for(ended.wait(), 5)


async def test_an_answer_that_stalls_is_taken_at_its_word(webhook, receiver, notice) -> None:
    async def stall(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await response.prepare(request)
        await asyncio.Event().wait()
        raise AssertionError

    receiver.answers.append(stall)
    await webhook(post={"total_s": 0.3}).deliver(notice)


async def test_an_unpacked_flood_is_never_unpacked(webhook, receiver, notice) -> None:
    receiver.answers.append(web.Response(body=b"not gzip at all", headers={"Content-Encoding": "gzip"}))
    await webhook().deliver(notice)


async def test_no_receiver_no_delivery(webhook, receivers, receiver, notice) -> None:
    await receiver.runner.cleanup()
    with pytest.raises(Undeliverable, match="cannot be reached"):
        await webhook().deliver(notice)


async def test_a_connection_that_breaks_off_is_undeliverable(webhook, receiver, notice) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        request.transport.abort()
        return web.Response()

    receiver.answers.append(cut)
    with pytest.raises(Undeliverable, match="broke off"):
        await webhook().deliver(notice)


async def test_what_is_no_http_is_undeliverable(webhook, notice) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example.com ESMTP\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(Undeliverable, match="answered no HTTP"):
        await webhook(url=f"http://127.0.0.1:{port}/").deliver(notice)
    server.close()
    await server.wait_closed()


async def test_a_certificate_that_nobody_vouches_for_is_not_trusted(webhook, receivers, notice, self_signed) -> None:
    receiver = await receivers("127.0.0.1", ssl_context=self_signed)
    with pytest.raises(Undeliverable, match="its certificate or its TLS cannot be used"):
        await webhook(url=f"https://127.0.0.1:{receiver.port}/").deliver(notice)
    assert receiver.taken == []


async def test_no_cookie_is_kept(webhook, names, receiver, notice) -> None:
    receiver.answers.append(web.Response(headers={"Set-Cookie": "who=you; Path=/"}))
    hook = webhook(post={"resolver": names(["127.0.0.1"])}, url=f"http://hooks.example.com:{receiver.port}/")
    await hook.deliver(notice)
    await hook.deliver(notice)
    assert ["Cookie" in headers for headers, _ in receiver.taken] == [False, False]


async def test_a_body_that_is_no_json_is_refused(webhook, notice) -> None:
    odd = Notice(notice.id, notice.kind, notice.at, {"what": object()})
    with pytest.raises(Refused, match="turn-1:7 cannot be written as JSON"):
        await webhook().deliver(odd)


async def test_the_secret_may_be_in_the_environment(webhook, receiver, notice, clock, monkeypatch) -> None:
    hook = webhook(secret="", secretEnv="HOOK_SECRET")
    with pytest.raises(Undeliverable, match="environment variable HOOK_SECRET: it is not set"):
        await hook.deliver(notice)
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    await hook.deliver(notice)
    [(headers, body)] = receiver.taken
    verify(headers, body, SECRET, now=clock.now())


async def test_nothing_else_of_the_environment_signs(webhook, receiver, notice, monkeypatch) -> None:
    monkeypatch.setenv("DATABASE_KEY", SECRET.removeprefix("whsec_"))
    with pytest.raises(Undeliverable, match="does not begin with 'whsec_'"):
        await webhook(secret="", secretEnv="DATABASE_KEY").deliver(notice)
    assert receiver.taken == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"url": None}, "url is no text"),
        ({"url": ""}, "url is missing"),
        ({"url": "ftp://hooks.example.com/"}, "url is no http or https address"),
        ({"url": "hooks.example.com/x"}, "url is no http or https address"),
        ({"url": "https:///x"}, "url is no http or https address"),
        ({"url": "https://hooks.example.com:99999/"}, "url is no http or https address"),
        ({"url": "https://me:pass-1234@hooks.example.com/"}, "url holds a user name or a password"),
        ({"url": "https://me@hooks.example.com/"}, "url holds a user name or a password"),
        ({"secret": ""}, "one of secret and secretEnv is needed, and not both"),
        ({"secretEnv": "HOOK_SECRET"}, "one of secret and secretEnv is needed, and not both"),
        ({"secret": "pass-1234"}, "secret: a secret is 'whsec_' and"),
        ({"previousSecret": "pass-1234"}, "previousSecret: a secret is 'whsec_' and"),
        ({"allowPrivate": "yes"}, "allowPrivate is neither true nor false"),
        ({"urk": "x"}, "unknown key 'urk'; did you mean 'url'?"),
    ],
)
def test_a_wrong_setting_is_named_and_not_repeated(webhook, settings, says) -> None:
    with pytest.raises(ConfigMistake) as caught:
        webhook(**settings)
    assert str(caught.value).startswith(f"webhook: {says}")
    assert "pass-1234" not in str(caught.value)
