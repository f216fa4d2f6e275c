"""Notices as signed POST requests, by the rules of Standard Webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from yarl import URL

from outcrop.clock import iso
from outcrop.notifications.base import Notice, Refused, Undeliverable
from outcrop.notifications.posting import Means, failure
from outcrop.notifications.settings import Settings
from outcrop.notifications.signing import SecretMistake, key_of, secret_in, sign

SETTINGS: Mapping[str, str] = {
    "url": "where notices are posted",
    "secret": "what they are signed with",
    "secretEnv": "the environment variable that holds the secret, instead of `secret`",
    "previousSecret": "a secret that notices are signed with too, while receivers change over to the new one",
    "allowPrivate": "whether the address may be on a private network or on this machine; default false",
}


def target(settings: Mapping[str, Any], means: Means) -> Webhook:
    """The webhook that settings describe; connects with the first notice.

    Errors: ConfigMistake naming a setting that is missing or cannot be used.
    """
    read = Settings("webhook", settings, SETTINGS)
    allow_private = read.switch("allowPrivate")
    url = read.address("url", means.post, allow_private=allow_private)
    secrets = {name: read.text(name) for name in ("secret", "previousSecret")}
    variable = read.text("secretEnv")
    if bool(secrets["secret"]) == bool(variable):
        raise read.mistake("one of secret and secretEnv is needed, and not both")
    for name, secret in secrets.items():
        try:
            key_of(secret) if secret else None
        except SecretMistake as error:
            raise read.mistake(f"{name}: {error}") from None
    return Webhook(means, url, [secret for secret in secrets.values() if secret], variable, allow_private)


class Webhook:
    """Posts notices to one address."""

    __slots__ = ("_allow_private", "_means", "_secrets", "_url", "_variable")

    def __init__(self, means: Means, url: URL, secrets: list[str], variable: str, allow_private: bool) -> None:
        self._means = means
        self._url = url
        self._secrets = secrets
        self._variable = variable
        self._allow_private = allow_private

    async def deliver(self, notice: Notice) -> None:
        """Post a notice once.

        Shapes: {"id", "type", "timestamp", "data"}.
        Errors: Undeliverable; Refused.
        """
        message = {"id": notice.id, "type": notice.kind, "timestamp": iso(notice.at), "data": dict(notice.body)}
        try:
            body = orjson.dumps(message)
        except TypeError as error:
            raise Refused(f"the notice {notice.id} cannot be written as JSON") from error
        headers = sign(self._signed_with(), notice.id, int(self._means.clock.now()), body)
        answer = await self._means.post.send(self._url, body, headers, allow_private=self._allow_private)
        if not 200 <= answer.status < 300:
            raise failure(answer)

    async def close(self) -> None:
        """There is nothing to give back; the connections are everybody's."""

    def _signed_with(self) -> list[str]:
        if not self._variable:
            return self._secrets
        try:
            secret = secret_in(self._variable)
        except SecretMistake as error:
            raise Undeliverable(f"webhook: environment variable {self._variable}: {error}") from None
        return [secret, *self._secrets]
