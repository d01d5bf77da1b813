"""Whatever the OpenAPI document allows, and what it does not: no answer is a fault of the server."""

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

EXAMPLES = 8
STATED = (503,)
"""Of the server's own faults, those that the document states: the store or the engine cannot be reached."""
TAKES_NOTHING = {"/healthz", "/readyz", "/metrics"}
"""Nothing that is given to these could be wrong."""


def statuses_of(operation, mode):
    """How examples of a call are answered, none of them by a fault of the server."""
    statuses = []

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def no_fault(case):
        answer = case.call(timeout=60)
        statuses.append(answer.status_code)
        assert answer.status_code < 500 or answer.status_code in STATED, answer.text

    no_fault()
    return statuses


def test_no_request_makes_a_server_error(server):
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    allowed = [status for one in operations for status in statuses_of(one, GenerationMode.POSITIVE)]
    assert len(allowed) > 3 * len(operations) and {200, 404} <= set(allowed)
    can_be_wrong = [one for one in operations if one.path not in TAKES_NOTHING]
    others = [status for one in can_be_wrong for status in statuses_of(one, GenerationMode.NEGATIVE)]
    assert len(others) > 3 * len(can_be_wrong) and 400 in others
