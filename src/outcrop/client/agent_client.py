"""Asks agents over boto3: time limits, retries that repeat no action, return of control until there is an answer.

ask --InvokeAgent--> chunks -> on_chunk | traces -> on_step | returnControl -> on_return_control --.
            ^                                                                                       |
            `---------------------------- results, on the same session -----------------------------'
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ProxyConnectionError,
    SSLError,
)

from outcrop.client.attempts import Attempts, Rules, name_attempts
from outcrop.client.failures import AgentCallFailed, AgentInterrupted, AgentUnreachable, typed
from outcrop.client.reading import Answer, OnChunk, OnStep, Reading
from outcrop.client.return_control import OnReturnControl, perform
from outcrop.client.steps import Step

JSON = dict[str, Any]
_SERVICE = "bedrock-agent-runtime"
_AWS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
_NEVER_CONNECTED = (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError, SSLError)


class MakesClients(Protocol):
    """A boto3 Session, or whatever else makes clients as one does, such as `outcrop.testing.LocalServer`."""

    def client(self, service: str, /, **options: Any) -> Any:
        """A client of that service."""
        ...


@dataclass(slots=True)
class AgentClient:
    """Asks agents, with time limits, typed errors and retries that repeat no action.

    Sent again, with the same text on the same session and under the same id, is what is safe:

    - what never began: no connection, throttled, model not ready, session busy, service failed;
    - a turn that failed by throttling or an unready model, if its traces show that nothing was carried out in it;
    - a turn that was interrupted (connection cut, silence, service failed in it), if the server resumes such turns.
      Outcrop does: whether the turn lives on, is taken up after a crash or has ended by now, the call joins it and is
      told the rest; what was told is not told twice, and no action that was recorded is repeated. AWS does not say, so
      there it is left to you;
    - a turn that lasts longer than the server lets one call last: joined again at once, for `patience_s`.

    Invalid requests, failed dependencies and everything else are never sent again. May be shared between threads.
    """

    endpoint_url: str | None = None
    """Where the agents are; None: as boto3 finds out (AWS_ENDPOINT_URL_BEDROCK_AGENT_RUNTIME, or AWS)."""
    region: str | None = None
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 120.0
    """Longest silence; every trace and every chunk breaks it."""
    attempts: int = 6
    """Requests made for one, the first among them; with `backoff_s` enough for a server that is being restarted."""
    backoff_s: float = 0.5
    """The first wait, at most; it doubles with every attempt up to 20 s: about 11 s for six attempts."""
    patience_s: float = 900.0
    """How long one request waits for a turn that goes on beyond the server's limit for a call; no attempts are counted
    for that."""
    trace: bool = True
    """Without traces there are no steps and no tokens, and a turn that failed half-way is not made again."""
    stream: bool = True
    """Whether the answer comes word by word (`streamFinalResponse`)."""
    resumes: bool | None = None
    """Whether the server resumes interrupted turns; None: every endpoint but AWS's own does."""
    session: MakesClients | None = None
    """What makes the client; None: a boto3 Session of the environment."""
    _client: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make the client; nothing is called yet.

        Errors: ValueError when endpoint_url is no http address.
        """
        if self.endpoint_url is not None:
            _check(self.endpoint_url)
        given = {"endpoint_url": self.endpoint_url, "region_name": self.region}
        options: JSON = {name: value for name, value in given.items() if value}
        options["config"] = Config(
            connect_timeout=self.connect_timeout_s,
            read_timeout=self.read_timeout_s,
            retries={"total_max_attempts": 1},  # boto3 would make a turn again without asking whether it has acted
        )
        self._client = _client(self.session, options)
        name_attempts(self._client)
        if self.resumes is None:
            self.resumes = not _host(self._client.meta.endpoint_url).endswith(_AWS)

    def ask(
        self,
        agent_id: str,
        alias_id: str,
        session_id: str,
        text: str,
        *,
        on_chunk: OnChunk | None = None,
        on_step: OnStep | None = None,
        on_return_control: OnReturnControl | None = None,
        session_state: Mapping[str, Any] | None = None,
    ) -> Answer:
        """The agent's answer, once it is there; the callbacks hear of it on the way, in this thread.

        Shapes: on_return_control is given one ActionCall at a time and gives what came of it: text or anything JSON can
                hold; where a confirmation is asked for, True or False and nothing else. ActionFailed tells the model
                why not, and the turn goes on. session_state is AWS's `sessionState`.
        Errors: AgentCallFailed and its kinds; TypeError when on_return_control gives something else; what a callback
                raises. The TypeError and what on_return_control raises, ActionFailed aside, also end the turn at the
                server, or deny what was to be confirmed: nothing is carried out.
        """
        reading = Reading(on_chunk, on_step)
        ask: JSON = {"agentId": agent_id, "agentAliasId": alias_id, "sessionId": session_id, "enableTrace": self.trace}
        ask["streamingConfigurations"] = {"streamFinalResponse": self.stream}
        state = {"sessionState": dict(session_state)} if session_state else {}
        self._send(reading, {**ask, "inputText": text, **state})
        while reading.control is not None and on_return_control is not None:
            control, reading.has_acted = reading.control, True
            answers, broken = perform(control, on_return_control)
            try:
                self._send(reading, {**ask, "sessionState": control.session_state(answers)})
            except AgentCallFailed:
                if broken is None:
                    raise
            if broken is not None:
                raise broken
        return reading.answer(session_id)

    def end(self, agent_id: str, alias_id: str, session_id: str) -> None:
        """End the session: its history and attributes are gone afterwards.

        Errors: AgentCallFailed and its kinds.
        """
        ids = {"agentId": agent_id, "agentAliasId": alias_id, "sessionId": session_id}
        self._send(Reading(), {**ids, "endSession": True})

    def close(self) -> None:
        """Give back the connections."""
        self._client.close()

    def _send(self, reading: Reading, ask: JSON) -> None:
        """One request, as often as is safe and of use."""
        rules = Rules(self.attempts, self.backoff_s, self.patience_s, bool(self.resumes), self.trace)
        attempts = Attempts(rules)
        reading.begin()
        while True:
            try:
                with attempts.made(), closing(self._events(reading, ask)) as events:
                    for name, member in events:
                        reading.take(name, member)
                reading.end()
                return
            except AgentCallFailed as error:
                error.request_id, error.partial_text = reading.request_id, reading.text
                again = attempts.after(error, has_acted=reading.has_acted)
                reading.again(joins=again.joins)
                reading.tell(Step("retry", error.code, error.message))
            time.sleep(again.wait_s)

    def _events(self, reading: Reading, ask: JSON) -> Generator[tuple[str, Any]]:
        """The stream's events by name; whatever goes wrong on the way is an AgentCallFailed."""
        try:
            response = self._client.invoke_agent(**ask)
        except ClientError as error:
            raise typed(error, has_begun=False) from error
        except _NEVER_CONNECTED as error:
            raise AgentUnreachable("Unreachable", str(error)) from error
        except HTTPClientError as error:
            raise AgentInterrupted("Interrupted", str(error), has_begun=True) from error
        reading.request_id = response["ResponseMetadata"].get("RequestId", "")
        with closing(response["completion"]) as stream:
            events = iter(stream)
            while True:
                try:
                    event = next(events, None)
                except ClientError as error:
                    raise typed(error, has_begun=True) from error
                except Exception as error:  # of the HTTP library or the frame decoder: the bytes broke off
                    raise AgentInterrupted("Interrupted", str(error), has_begun=True) from error
                if event is None:
                    return
                yield next(iter(event.items()))


def _check(endpoint_url: str) -> None:
    parts = urlsplit(endpoint_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        missing = "" if "://" in endpoint_url else f"; the scheme is missing: write 'http://{endpoint_url}'"
        raise ValueError(f"endpoint_url '{endpoint_url}' is no http:// or https:// address{missing}")


def _client(given: MakesClients | None, options: JSON) -> Any:
    """A client of the runtime. An endpoint of one's own needs no real region or keys, but something must be signed."""
    session: Any = given or boto3.Session()
    host = _host(options.get("endpoint_url", ""))
    if host and not host.endswith(_AWS):
        if getattr(session, "region_name", "") is None:
            options = {"region_name": "us-east-1", **options}
        if given is None and session.get_credentials() is None:
            options |= {"aws_access_key_id": "outcrop", "aws_secret_access_key": "outcrop"}
    return session.client(_SERVICE, **options)


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
