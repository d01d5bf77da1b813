from collections.abc import Iterator

import openai
import pytest

from tests.serving.http.serving import Running, running


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as run:
        yield run


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client
