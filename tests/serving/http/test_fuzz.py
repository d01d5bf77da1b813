"""Whatever the OpenAPI document allows, and what it does not: no answer is a fault of the server."""

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error

from tests.serving.http.serving import running


def test_no_request_makes_a_server_error():
    with running() as server:
        schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        tried = 0
        for operation in (found.ok() for found in schema.get_all_operations()):

            @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
            @given(case=operation.as_strategy())
            def check(case):
                nonlocal tried
                tried += 1
                response = case.call(timeout=30)
                case.validate_response(response, checks=[not_a_server_error])

            check()
        assert tried > 200
