"""AWS's models come from the installed botocore, patched in a few named places only; ours is a file of ours."""

from __future__ import annotations

import botocore.session
import pytest

from outcrop.wire.services import (
    CONTROL_PLANE,
    EXTENSIONS,
    OWN_MODELS,
    PATCHES,
    PATH_PATCHES,
    RUNTIME,
    service,
    services,
)
from outcrop.wire.validation import _fits


@pytest.fixture(scope="module")
def known() -> botocore.session.Session:
    """A client's own view of the services, told only where our model is."""
    session = botocore.session.get_session()
    session.get_component("data_loader").search_paths.append(str(OWN_MODELS))
    return session


def test_all_services_are_there_with_all_their_operations(known: botocore.session.Session) -> None:
    for name, model in services().items():
        assert list(model.operation_names) == list(known.get_service_model(name).operation_names)
        assert model.service_name == name
    assert list(services()) == [CONTROL_PLANE, RUNTIME, EXTENSIONS]


def test_a_model_is_loaded_once() -> None:
    assert service(RUNTIME) is service(RUNTIME)
    assert service(RUNTIME).operation_model("InvokeAgent") is service(RUNTIME).operation_model("InvokeAgent")


def test_a_service_that_botocore_lacks_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="bedrock-agents"):
        service("bedrock-agents")


def test_clients_load_the_very_model_that_the_server_has(known: botocore.session.Session) -> None:
    theirs, ours = known.get_service_model(EXTENSIONS), service(EXTENSIONS)

    assert theirs.metadata == ours.metadata
    assert theirs._service_description["operations"] == ours._service_description["operations"]
    assert theirs._service_description["shapes"] == ours._service_description["shapes"]


def test_our_paths_are_nobody_elses() -> None:
    for name, model in services().items():
        for operation in map(model.operation_model, model.operation_names):
            top = operation.http["requestUri"].split("/")[1]
            assert (top == "outcrop") == (name == EXTENSIONS)
            assert not top.startswith("{"), "a label at the top would take our paths, too"


def test_only_what_the_patches_say_differs_from_botocore(known: botocore.session.Session) -> None:
    for name in (CONTROL_PLANE, RUNTIME):
        theirs = known.get_service_model(name)
        ours = service(name)
        changed = {
            shape for shape in theirs.shape_names if ours.shape_for(shape).metadata != theirs.shape_for(shape).metadata
        }
        assert changed == set(PATCHES[name])
        for operation in theirs.operation_names:
            mine, other = ours.operation_model(operation).input_shape, theirs.operation_model(operation).input_shape
            renamed = {member for member in other.members if mine.members[member].name != other.members[member].name}
            assert renamed <= set(PATH_PATCHES)
            assert all(mine.members[member].serialization["location"] == "uri" for member in renamed)
            assert renamed == PATH_PATCHES.keys() & {
                member for member, shape in other.members.items() if shape.serialization.get("location") == "uri"
            }


def test_every_pattern_of_the_models_can_be_checked() -> None:
    patterns = {
        model.shape_for(shape).metadata.get("pattern") for model in services().values() for shape in model.shape_names
    } - {None}

    assert len(patterns) > 100
    for pattern in patterns:
        assert _fits(pattern)("\u0007\n\u2028") in (True, False)
