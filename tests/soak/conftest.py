from tests.serving.conftest import shared_artifacts  # noqa: F401
