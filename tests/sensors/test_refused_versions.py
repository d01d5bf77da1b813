"""Which failed runs say something about a version, and which are overtaken by another."""

import dagster as dg
import pytest

from sensors.refused_versions import is_overtaken, partition_label, refusals
from videogen.errors import ArtifactRefused, DiskFull, StoreUnavailable, VideogenError
from videogen_assets.jobs import ASKED_TAG
from videogen_assets.refusals import WOULD_DROP, final_refusals

LABEL = "videogen-tiny@3"


def failed_with(error: Exception) -> list[dg.DagsterEvent]:
    @dg.op
    def step() -> None:
        with final_refusals():
            raise error

    @dg.job
    def job() -> None:
        step()

    result = job.execute_in_process(raise_on_error=False)
    return [event for event in result.all_events if event.is_step_failure]


@pytest.mark.parametrize(
    ("error", "is_told"),
    [
        (ArtifactRefused("a pickle"), True),
        (dg.Failure("it would leave cpu", metadata={"kind": WOULD_DROP}), True),
        (DiskFull("the disk is full"), False),
        (StoreUnavailable("it is away"), False),
        (VideogenError("whatever"), False),
        (KeyError("a fault of ours"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_only_what_is_the_versions_own_fault_is_told(error, is_told):
    assert bool(refusals(failed_with(error))) is is_told


def run_of(instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    run = dg.DagsterRun("model_lifecycle", tags={"dagster/partition": LABEL, **tags})
    instance.add_run(run)
    return run


def test_a_run_is_overtaken_by_a_later_one_and_by_a_later_wish():
    with dg.DagsterInstance.ephemeral() as instance:
        first = run_of(instance, **{ASKED_TAG: "once"})
        assert partition_label(first) == LABEL
        assert not is_overtaken(instance, first, "once")
        assert is_overtaken(instance, first, "twice")
        second = run_of(instance)
        assert is_overtaken(instance, first, "once")
        assert not is_overtaken(instance, second, "twice") and not is_overtaken(instance, second, None)
