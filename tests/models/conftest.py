import pytest

from tests.fixtures.random_models import write_random_tiny, write_random_wan


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    return write_random_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def wan_folder(tmp_path_factory):
    return write_random_wan(tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="session")
def unipc_folder(tmp_path_factory):
    return write_random_wan(tmp_path_factory.mktemp("unipc"), unipc=True)
