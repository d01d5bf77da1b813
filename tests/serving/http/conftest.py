from collections.abc import Iterator

import openai
import pytest

from tests.serving.running import Serve, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A real `videogen serve` with a synthetic device."""
    settings = {"VIDEOGEN_WEBHOOK_SECRET": "whsec_c2lnbiBtZQ==", "VIDEOGEN_OUTGOING_ALLOW": "127.0.0.1"}
    with serving(tmp_path_factory.mktemp("serve") / "home", **settings) as one:
        yield one
    assert one.process.returncode == 0, one.log.read_text()


@pytest.fixture
def client(server: Serve) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client
