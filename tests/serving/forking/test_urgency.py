"""When a job is made may be changed too: its priority and its deadline."""

from tests.serving.forking.changing import BLUE, DEVICE, LONG, gated, steps_of
from tests.serving.in_process import CALLER, end_of, run, served


def told_of(service) -> list:
    """Priorities and deadlines that the engine process is told of from now on, by job."""
    engine, told = service.work.engine, []
    change, fork, given = engine.change, engine.fork, engine.run

    def changes(job_id, *, priority=None, deadline_in=None):
        told.append((job_id, priority, deadline_in))
        change(job_id, priority=priority, deadline_in=deadline_in)

    async def forks(source, job, fields):
        told.append((job.id, job.priority, job.deadline_in))
        return await fork(source, job, fields)

    def gives(job):
        told.append((job.id, job.priority, job.deadline_in))
        given(job)

    engine.change, engine.fork, engine.run = changes, forks, gives
    return told


def test_what_is_made_is_as_urgent_as_the_most_urgent_who_waits_for_it(store):
    async def scenario():
        async with served(store, DEVICE) as service:
            gated(service)
            first = await service.submit({**LONG, "priority": "interactive"}, CALLER)
            joined = await service.submit({**LONG, "priority": "interactive", "deadline": 60.0}, CALLER)
            await steps_of(service, first.id, 1)
            told = told_of(service)
            await service.change(first.id, {"priority": "batch"}, CALLER)
            assert told.pop()[:2] == (first.id, "interactive"), "the other still waits for it"
            await service.change(joined.id, {"priority": "batch"}, CALLER)
            assert told.pop()[:2] == (first.id, "batch")
            await service.change(joined.id, {"priority": "interactive"}, CALLER)
            await service.change(first.id, BLUE, CALLER)
            job_id, priority, deadline_in = told.pop()
            assert (job_id, priority) == (joined.id, "interactive") and 0 < deadline_in <= 60.0
            for job in (first, joined):
                await service.cancel(job.id, CALLER)

    run(scenario)


def test_whatever_the_engine_is_told_of_a_deadline_leaves_time_to_publish(store):
    async def scenario():
        async with served(store, DEVICE) as service:
            service.work.speed.publish_s, told = 10.0, told_of(service)
            job = await service.submit({**LONG, "deadline": 20.0}, CALLER)
            await steps_of(service, job.id, 1)
            await service.change(job.id, {"deadline": 21.0}, CALLER)
            await service.change(job.id, BLUE, CALLER)
            assert len(told) == 3 and all(deadline_in <= 11.0 for _, _, deadline_in in told)
            await service.cancel(job.id, CALLER)

    run(scenario)


def test_a_deadline_that_is_moved_is_the_one_that_counts(store):
    async def scenario():
        async with served(store, DEVICE) as service:
            job = await service.submit({**LONG, "num_inference_steps": 50}, CALLER)
            await service.change(job.id, {"deadline": 1.0}, CALLER)
            end = await end_of(service, job.id)
            assert end.error.code == "deadline_exceeded"

    run(scenario)
