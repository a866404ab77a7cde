"""A training with a granted time ends then, annealed, whatever the machine does; resumed, it goes on exactly."""

import itertools

import pytest

from smerf.engine.pace import Pacer, budget_clock, keep_pace, pace_state, restore_pace
from smerf.engine.schedule import Schedule
from smerf.errors import UsageError


class Machine:
    """A clock that a step moves on."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Training:
    """Takes steps of ``cost(step)`` seconds, and notes the learning rate of each."""

    def __init__(self, machine, seconds, steps, cost):
        self.machine, self.cost = machine, cost
        self.step, self.schedule = 0, Schedule(steps)
        self.pacer = None if seconds is None else Pacer(seconds, machine)
        self.rates = []

    def run(self, until=None):
        while self.step < self.schedule.steps and self.step != until:
            self.rates.append(self.schedule.rate(self.step, 5, 0.01))
            self.machine.now += self.cost(self.step)
            self.step += 1
            keep_pace(self)


@pytest.mark.parametrize("cost", [0.1, 0.05, 0.2], ids=["as planned", "twice as fast", "half as fast"])
def test_a_training_ends_on_time_and_annealed(cost):
    machine = Machine()
    training = Training(machine, 100.0, 1000, lambda step: cost)
    training.run()
    assert machine.now - 1000.0 == pytest.approx(100.0, rel=0.02)
    assert training.step == training.schedule.steps == pytest.approx(100.0 / cost, rel=0.03)
    assert training.rates[-1] < 0.0105
    # The rate never rises once warm, and never jumps.
    warm = training.rates[5:]
    assert all(0.9 * a < b <= a for a, b in itertools.pairwise(warm))


def test_a_machine_that_gets_busy_half_way_shortens_the_rest():
    machine = Machine()
    training = Training(machine, 100.0, 1000, lambda step: 0.1 if step < 500 else 0.4)
    training.run()
    assert machine.now - 1000.0 == pytest.approx(100.0, rel=0.02)
    assert 600 < training.step < 660 and training.rates[-1] < 0.0107


def test_steps_that_become_cheaper_use_the_time_that_they_save():
    machine = Machine()
    training = Training(machine, 100.0, 500, lambda step: 0.2 if step < 200 else 0.1)
    training.run()
    assert machine.now - 1000.0 == pytest.approx(100.0, rel=0.02) and training.step > 750


def test_time_that_is_over_leaves_one_annealed_step():
    machine = Machine()
    training = Training(machine, 10.0, 1000, lambda step: 0.1 if step < 50 else 60.0)
    training.run()
    assert training.step <= 60 and training.schedule.fraction(training.step) == pytest.approx(1.0)


def test_without_a_grant_nothing_changes():
    training = Training(Machine(), None, 40, lambda step: 9.0)
    training.run()
    assert training.rates == [min(1.0, (step + 1) / 5) * 0.01 ** (step / 40) for step in range(40)]
    assert pace_state(training) == {}


def test_a_shortened_schedule_resumes_exactly():
    def cost(step):
        return 0.1 if step < 100 else 0.3

    whole_machine, machine = Machine(), Machine()
    whole = Training(whole_machine, 60.0, 600, cost)
    whole.run()
    first = Training(machine, 60.0, 600, cost)
    first.run(until=150)
    assert first.schedule.steps < 600
    saved = pace_state(first)
    # Time between the sessions does not count.
    machine.now += 5000.0
    second = Training(machine, 60.0, 600, cost)
    second.step = first.step
    restore_pace(second, saved)
    assert second.schedule == first.schedule
    second.run()
    assert second.step == pytest.approx(whole.step, abs=6)
    assert second.rates[0] == whole.rates[150] and second.rates[-1] < 0.0105


def test_the_clock_is_one_of_two(monkeypatch):
    monkeypatch.setenv("SMERF_CLOCK", "processor")
    before = budget_clock()()
    sum(range(1_000_000))
    assert 0.0 < budget_clock()() - before < 5.0
    monkeypatch.setenv("SMERF_CLOCK", "sun")
    with pytest.raises(UsageError, match="wall or processor"):
        budget_clock()
