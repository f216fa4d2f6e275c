"""The settings of a notification target, each read with its type.

Used by the files of `targets/`. No message repeats a value: it may be a secret, or hold one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from yarl import URL

from outcrop.config import ConfigMistake, check_keys
from outcrop.notifications.posting import Post


class Settings:
    """The settings of one target, none of them unknown."""

    def __init__(self, place: str, given: Mapping[str, Any], allowed: Iterable[str]) -> None:
        """Keep them; place is what messages call the target.

        Errors: ConfigMistake naming an unknown setting.
        """
        check_keys(place, given, allowed)
        self._place = place
        self._given = given

    def text(self, name: str, default: str = "") -> str:
        """A text.

        Errors: ConfigMistake when it is something else.
        """
        value = self._given.get(name, default)
        if not isinstance(value, str):
            raise self.mistake(f"{name} is no text")
        return value

    def switch(self, name: str) -> bool:
        """Whether something is on; it is off where it is not set.

        Errors: ConfigMistake when it is neither true nor false.
        """
        value = self._given.get(name, False)
        if not isinstance(value, bool):
            raise self.mistake(f"{name} is neither true nor false")
        return value

    def address(self, name: str, post: Post, *, allow_private: bool, default: str = "") -> URL:
        """An http or https address.

        Errors: ConfigMistake when it is missing or is none, holds user info, or is plainly private and must not be.
        """
        written = self.text(name, default)
        if not written:
            raise self.mistake(f"{name} is missing")
        try:
            url = URL(written)
            host = url.host or ""
            good = url.scheme in ("http", "https") and bool(host) and url.port is not None
        except ValueError:
            raise self.mistake(f"{name} is no http or https address") from None
        if not good:
            raise self.mistake(f"{name} is no http or https address")
        if url.user is not None or url.password is not None:
            raise self.mistake(f"{name} holds a user name or a password, which are not sent; notices are signed")
        if not allow_private and post.refuses(host):
            raise self.mistake(f"{name} is on a private network or on this machine; allowPrivate allows that")
        return url

    def mistake(self, sentence: str) -> ConfigMistake:
        """What is wrong with these settings, in the form that all messages have."""
        return ConfigMistake(f"{self._place}: {sentence}")
