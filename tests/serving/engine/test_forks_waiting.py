"""A fork waits for the boundary of what it is made of, and is answered where that has ended instead."""

import dataclasses
import threading

import pytest

from tests.serving.engine.running import SYNTHETIC, job, request
from tests.serving.engine.test_forks import ended, until
from videogen.serving.engine.loop import Loop
from videogen.serving.engine.messages import Answer, EngineConfig, Failed, Finished, Fork, FromEngine, Synthetic
from videogen.serving.engine.synthetic import SyntheticModel, synthetic_version

DEVICE = Synthetic(fixed_s=0.06, each_s=0.001)


class Gated(SyntheticModel):
    """Its steps, and texts but for the first, wait until they may go on. One that `fails` does so at its steps."""

    fails = False

    def __init__(self) -> None:
        super().__init__(DEVICE)
        self.may_step, self.may_read, self.reads, self.steps = threading.Event(), threading.Event(), 0, 0

    def start(self, requests):
        self.reads += 1
        assert self.reads == 1 or self.may_read.wait(30)
        return super().start(requests)

    def step(self, generations, count=1):
        self.steps += 1
        assert self.may_step.wait(30)
        if self.fails:
            raise ValueError("it cannot step")
        super().step(generations, count)


@pytest.fixture
def made():
    """A device that holds a job in its first step, and the fork of it that was asked for."""
    messages: list[FromEngine] = []
    model, one = Gated(), request(0)
    loop = Loop(EngineConfig(synthetic=DEVICE), 1, messages.append)
    loop.add(dataclasses.replace(synthetic_version(SYNTHETIC, DEVICE, 1), model=model))
    loop.run(job(one))
    until(lambda: model.steps)
    loop.fork(Fork(7, one.id, dataclasses.replace(job(one), id="fork"), {"prompt": "a blue ball"}))
    until(lambda: model.reads == 2)
    yield loop, model, one, messages
    model.may_read.set()
    model.may_step.set()


def answers(messages):
    return [message.value for message in messages if isinstance(message, Answer)]


def waits(loop):
    """Does a fork wait for a boundary?"""
    return any(live.forks for live in (loop._held.get(name) for name in loop.held))


def test_it_takes_over_the_latents_once_the_step_under_way_has_ended(made):
    loop, model, one, messages = made
    model.may_read.set()
    until(lambda: waits(loop) or answers(messages))
    assert not answers(messages), "it took latents that a step was changing"
    model.may_step.set()
    until(lambda: answers(messages))
    assert answers(messages) == [1]
    loop.begin("fork", instead=False)
    assert loop.drained(30)
    assert isinstance(ended(messages, "fork"), Finished) and isinstance(ended(messages, one.id), Finished)


def test_of_what_fails_before_its_boundary_there_is_no_fork(made):
    loop, model, one, messages = made
    model.may_read.set()
    until(lambda: waits(loop))
    model.fails = True
    model.may_step.set()
    assert loop.drained(30), "a fork waits for a boundary that never comes"
    assert answers(messages) == [None]
    assert isinstance(ended(messages, one.id), Failed) and ended(messages, "fork") is None


def test_of_what_ends_while_its_text_is_read_there_is_no_fork(made):
    loop, model, one, messages = made
    model.may_step.set()
    until(lambda: ended(messages, one.id))
    assert loop.held == ["fork"] and not answers(messages)
    model.may_read.set()
    assert loop.drained(30), "a fork waits for a boundary that never comes"
    assert answers(messages) == [None]
