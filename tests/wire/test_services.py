"""The models come from the installed botocore, patched in a few named places only."""

from __future__ import annotations

import botocore.session
import pytest

from outcrop.wire.services import CONTROL_PLANE, PATCHES, PATH_PATCHES, RUNTIME, SERVICES, service, services
from outcrop.wire.validation import _fits


def test_both_services_are_there_with_all_their_operations() -> None:
    known = botocore.session.get_session()
    for name, model in services().items():
        assert list(model.operation_names) == list(known.get_service_model(name).operation_names)
        assert model.service_name == name
    assert list(services()) == [CONTROL_PLANE, RUNTIME]


def test_a_model_is_loaded_once() -> None:
    assert service(RUNTIME) is service(RUNTIME)
    assert service(RUNTIME).operation_model("InvokeAgent") is service(RUNTIME).operation_model("InvokeAgent")


def test_a_service_that_botocore_lacks_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="bedrock-agents"):
        service("bedrock-agents")


def test_only_what_the_patches_say_differs_from_botocore() -> None:
    known = botocore.session.get_session()
    for name in SERVICES:
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
