"""A receiver's address is public, or allowed to be private: also when a name changes where it leads."""

from __future__ import annotations

import pytest

from outcrop.config import ConfigMistake
from outcrop.notifications.base import Refused, Undeliverable
from outcrop.notifications.posting import Post, is_private
from outcrop.notifications.signing import new_secret
from outcrop.notifications.targets import event_bridge, webhook

PRIVATE = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.9.9.9",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.168.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
PUBLIC = [
    "1.1.1.1",
    "93.184.216.34",
    "172.15.0.1",
    "172.32.0.1",
    "192.169.0.1",
    "::ffff:93.184.216.34",
    "64:ff9b::93.184.216.34",
    "2002:5db8:d822::1",
    "2606:4700:4700::1111",
]


@pytest.fixture
def hook(means):
    """A webhook by name and port, its name leading where the resolver says."""

    def make(port: int, names, **options):
        settings = {"url": f"http://hooks.example.com:{port}/hook", "secret": new_secret()}
        allow = {"allowPrivate": True} if options.pop("allow_private", False) else {}
        return webhook.target(settings | allow, means(resolver=names, **options))

    return make


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_public_is_private(address: str) -> None:
    assert is_private(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_not(address: str) -> None:
    assert not is_private(address)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "10.0.0.1", "169.254.169.254", "localhost", "LOCALHOST", "api.localhost", "localhost."],
)
@pytest.mark.parametrize("kind", ["webhook", "event_bridge"])
def test_a_plainly_private_address_is_refused_when_it_is_set(means, host: str, kind: str) -> None:
    seam, settings = {
        "webhook": (webhook, {"url": f"http://{host}/", "secret": new_secret()}),
        "event_bridge": (event_bridge, {"endpointUrl": f"http://{host}:4566"}),
    }[kind]
    with pytest.raises(ConfigMistake, match="on a private network or on this machine; allowPrivate allows that"):
        seam.target(settings, means())
    assert seam.target(settings | {"allowPrivate": True}, means())


async def test_a_name_that_leads_inwards_is_refused(hook, names, receiver, notice) -> None:
    target = hook(receiver.port, names(["127.0.0.1"]))
    with pytest.raises(Refused, match=rf"^http://hooks\.example\.com:{receiver.port} is on a private network"):
        await target.deliver(notice)
    assert receiver.connections == set()


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::ffff:127.0.0.1]"])
async def test_no_way_of_writing_an_address_leads_inwards(means, names, receiver, notice, host: str) -> None:
    # Most systems resolve the odd ones to 127.0.0.1, of which the name shows nothing.
    settings = {"url": f"http://{host}:{receiver.port}/", "secret": new_secret()}
    with pytest.raises((ConfigMistake, Refused)):
        await webhook.target(settings, means(resolver=names(["127.0.0.1"]))).deliver(notice)
    assert receiver.connections == set()


async def test_a_name_may_lead_inwards_where_that_is_allowed(hook, names, receiver, notice) -> None:
    await hook(receiver.port, names(["127.0.0.1"]), allow_private=True).deliver(notice)
    assert len(receiver.taken) == 1


async def test_a_name_that_leads_elsewhere_the_second_time_gains_nothing(
    hook, names, receiver, receivers, notice
) -> None:
    # 127.0.0.1 stands for the public address that the name leads to at first, 127.0.0.2 for one within.
    inside = await receivers("127.0.0.2", receiver.port)
    rebinding = names(["127.0.0.1"], ["127.0.0.2"])
    target = hook(receiver.port, rebinding, refused=lambda address: address == "127.0.0.2", remember_names_s=0)
    receiver.answers.append(receiver.parting)

    await target.deliver(notice)
    with pytest.raises(Refused, match="on a private network"):
        await target.deliver(notice)

    assert len(rebinding.asked) == 2
    assert len(receiver.taken) == 1
    assert inside.connections == set()


async def test_of_several_addresses_only_the_public_one_is_used(hook, names, receiver, receivers, notice) -> None:
    inside = await receivers("127.0.0.2", receiver.port)
    target = hook(receiver.port, names(["127.0.0.2", "127.0.0.1"]), refused=lambda address: address == "127.0.0.2")
    await target.deliver(notice)
    assert len(receiver.taken) == 1
    assert inside.connections == set()


async def test_a_connection_that_was_allowed_is_not_lent_to_who_is_not(means, names, receiver, notice) -> None:
    shared = means(resolver=names(["127.0.0.1"]))
    settings = {"url": f"http://hooks.example.com:{receiver.port}/hook", "secret": new_secret()}
    await webhook.target(settings | {"allowPrivate": True}, shared).deliver(notice)
    with pytest.raises(Refused, match="on a private network"):
        await webhook.target(settings, shared).deliver(notice)
    assert len(receiver.taken) == 1


async def test_a_name_that_nobody_knows_may_be_known_later(hook, names, notice) -> None:
    with pytest.raises(Undeliverable, match=r"hooks\.example\.com:81 cannot be reached: its name is not known"):
        await hook(81, names([])).deliver(notice)


async def test_a_proxy_of_the_environment_is_no_way_around(hook, names, receiver, notice, monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", receiver.url)
    with pytest.raises(Refused, match="on a private network"):
        await hook(81, names(["127.0.0.1"])).deliver(notice)
    assert receiver.connections == set()


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "0177.0.0.1", "127.0.0.1.", "0xA000001"])
def test_a_private_address_written_as_a_number_is_known_by_its_name(host: str) -> None:
    assert Post().refuses(host)


def test_a_public_address_is_taken_as_it_is_written() -> None:
    assert not Post().refuses("134744072")
    assert not Post().refuses("127.example.com")
    assert not Post().refuses("93.184.216.34")
    assert not Post().refuses("hooks.example.com")
