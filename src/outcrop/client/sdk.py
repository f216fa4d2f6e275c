"""The service `outcrop` for boto3 and whatever else loads botocore's models: turns that go on without their caller.

    sdk_session().client("outcrop", endpoint_url="http://127.0.0.1:8700").start_turn(...)
    export AWS_DATA_PATH=$(outcrop sdk-path)      the same for the AWS CLI, and for programs that stay as they are

The model is the very file that the server reads. It knows no address: `endpoint_url`, or AWS_ENDPOINT_URL_OUTCROP.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import botocore.session

_MODELS = Path(__file__).parents[1] / "operations" / "extensions" / "models"


def sdk_path() -> Path:
    """The folder that holds our service model, for AWS_DATA_PATH."""
    return _MODELS


def sdk_session(**options: Any) -> boto3.Session:
    """A boto3 Session that knows the service `outcrop` beside AWS's.

    Shapes: options are those of boto3.Session; a botocore_session among them is extended and used.
    """
    core = options.pop("botocore_session", None) or botocore.session.get_session()
    core.get_component("data_loader").search_paths.append(str(sdk_path()))
    return boto3.Session(botocore_session=core, **options)
