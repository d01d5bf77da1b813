import os

import pytest

from videogen.artifacts import Artifacts
from videogen.errors import MetricUnavailable
from videogen.quality.i3d_weights import i3d_weights


@pytest.fixture(scope="session")
def artifacts() -> Artifacts:
    """Holds the real weights, fetched once into the state folder; without them there is nothing to verify."""
    store = Artifacts(os.environ.get("VIDEOGEN_ARTIFACTS_URL", "var/artifacts"))
    try:
        i3d_weights(store, fetch=True)
    except MetricUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    return store
