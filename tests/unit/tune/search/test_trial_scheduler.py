"""Planning by number: samplers, successive halving, and the schedule that joins them."""

from __future__ import annotations

import random

import pytest

from data.schema.search import DEFAULT_SPACE, Range
from tests.support.training.search import DECLARED, trial
from tune.search.asha import SuccessiveHalving, climb, rungs
from tune.search.sampler import Sampler, SamplerName
from tune.search.trial_scheduler import TrialScheduler

SPACE = {**DECLARED.space, "grow_policy": Range(choices=("depthwise", "lossguide"))}


def score(params):
    """A made-up objective with its best at depth 4 and rate 0.1."""
    return 1 - abs(params["max_depth"] - 4) / 10 - abs(params["learning_rate"] - 0.1)


def ended(assignment):
    """The assignment as a finished trial: at the first rung with a bar it may be stopped."""
    history = [score(assignment.params) * (i + 1) / 40 for i in range(40)]
    for rung, bar in sorted(assignment.bars.items()):
        if max(history[:rung]) < bar:
            return trial(assignment.number, history[:rung], stopped_early=True, params=assignment.params)
    return trial(assignment.number, history, params=assignment.params)


def play(lag, trials=30, seed=3, finished=(), shuffled=0, name=SamplerName.TPE):
    """Run a schedule to its end, ending what is under way in an order that chance decides."""
    schedule = TrialScheduler(Sampler(name, SPACE, seed), 40, trials, lag, finished)
    chance, under_way, done = random.Random(shuffled), [], []
    while True:
        while len(under_way) < lag and (assignment := schedule.plan()) is not None:
            under_way.append(assignment)
        if not under_way:
            assert schedule.exhausted
            return done
        done.append(ended(under_way.pop(chance.randrange(len(under_way)))))
        schedule.end(done[-1])


def by_number(trials):
    """Trials in the order of their numbers."""
    return sorted(trials, key=lambda each: each.number)


@pytest.mark.parametrize("lag", [1, 6])
def test_same_seed_same_trials_whoever_ends_first(lag):
    """The order of ending changes nothing, another seed does."""
    first = by_number(play(lag, shuffled=1))
    assert [each.number for each in first] == list(range(30))
    assert by_number(play(lag, shuffled=2)) == first
    assert by_number(play(lag, seed=4)) != first


@pytest.mark.parametrize("name", SamplerName)
@pytest.mark.parametrize("lag", [1, 6])
@pytest.mark.parametrize("kept", [1, 12, 29])
def test_resumed_schedule_goes_on_as_an_unbroken_one(lag, kept, name):
    """Whatever the sampler, and whatever was finished, in whatever order and with holes, the rest is the same."""
    whole = play(lag, shuffled=1, name=name)
    rest = play(lag, finished=whole[:kept], shuffled=5, name=name)
    assert by_number([*whole[:kept], *rest]) == by_number(whole)


def test_nothing_is_planned_before_what_it_must_know_of():
    """With a lag of two the third trial waits for the first, and not for the second."""
    schedule = TrialScheduler(Sampler(SamplerName.RANDOM, SPACE, 0), 40, 5, 2, [])
    first, second = schedule.plan(), schedule.plan()
    assert schedule.plan() is None
    schedule.end(ended(second))
    assert schedule.plan() is None
    schedule.end(ended(first))
    assert [schedule.plan().number, schedule.plan().number, schedule.plan()] == [2, 3, None]


def test_tpe_learns_where_the_good_parameters_are():
    """After its start at random TPE asks nearer to the optimum than chance does, seed after seed."""
    for seed in range(2):
        learned = [score(each.params) for each in by_number(play(1, 60, seed))[30:]]
        chance = [score(each.params) for each in by_number(play(1, 30, seed, name=SamplerName.RANDOM))]
        assert sum(learned) / len(learned) > sum(chance) / len(chance) + 0.05


def test_asked_parameters_lie_in_the_space():
    """Ends are included; whole numbers are whole, also of a logarithmic range; fractions of a bound round inwards."""
    space = {
        "a": Range(low=1.5, high=3.5, integer=True),
        "b": Range(low=1, high=1000, integer=True, log=True),
        "c": Range(low=0.25, high=0.25),
        "d": Range(choices=("x", 2)),
    }
    for name in SamplerName:
        sampler = Sampler(name, space, 0)
        for number in range(40):
            asked = sampler.ask(number)
            sampler.tell(trial(number, [0.1 * asked["a"]], params=asked))
            assert asked["a"] in (2, 3)
            assert isinstance(asked["b"], int)
            assert 1 <= asked["b"] <= 1000
            assert asked["c"] == 0.25
            assert asked["d"] in ("x", 2)


def test_random_parameters_depend_on_seed_and_number_alone():
    """By chance a trial's parameters are the same in any order and whatever was told, and lie in the space."""
    forwards, backwards = (Sampler(SamplerName.RANDOM, DEFAULT_SPACE, 1) for _ in range(2))
    drawn = []
    for number in range(50):
        drawn.append(forwards.ask(number))
        forwards.tell(trial(number, [number / 50], params=drawn[-1]))
    assert [backwards.ask(number) for number in reversed(range(50))] == drawn[::-1]
    assert len({str(params) for params in drawn}) == 50
    assert Sampler(SamplerName.RANDOM, DEFAULT_SPACE, 2).ask(0) != drawn[0]
    for name, declared in DEFAULT_SPACE.items():
        assert all(declared.low <= params[name] <= declared.high for params in drawn)


def test_every_integer_and_choice_is_drawn():
    """By chance both ends of a whole-number range and every choice come up."""
    space = {"max_depth": Range(low=1, high=4, integer=True, log=True), "grow_policy": Range(choices=("a", "b"))}
    sampler = Sampler(SamplerName.RANDOM, space, 0)
    drawn = [sampler.ask(number) for number in range(200)]
    assert {params["max_depth"] for params in drawn} == {1, 2, 3, 4}
    assert {params["grow_policy"] for params in drawn} == {"a", "b"}


def test_rungs_stand_at_a_tenth_and_its_triples():
    """Of 300 rounds: 30, 90 and 270; of one round: none."""
    assert rungs(300) == [30, 90, 270]
    assert rungs(15) == [2, 6]
    assert rungs(1) == []


def test_bar_is_the_upper_third_of_those_that_came_so_far():
    """The best score up to the rung counts; a trial that ended before has none."""
    halving = SuccessiveHalving(30)
    assert halving.bars() == {}
    for number, top in enumerate((0.1, 0.2, 0.3, 0.4)):
        halving.tell(trial(number, [top, 0.0, 0.05]))
    halving.tell(trial(9, [0.9]))
    assert halving.bars() == {3: pytest.approx(0.3)}


class Steps:
    """A fit whose metric rises by 0.01 a round and that ends by itself after 20."""

    def __init__(self):
        self.history = []

    @property
    def finished(self):
        """True after 20 rounds."""
        return len(self.history) >= 20

    def advance(self, rounds):
        """So many more rounds, 20 at most."""
        done = len(self.history)
        self.history += [number / 100 for number in range(done, min(done + rounds, 20))]


@pytest.mark.parametrize(
    ("bars", "rounds", "stopped"),
    [({}, 20, False), ({3: 0.01}, 20, False), ({3: 0.5}, 3, True), ({9: 0.9, 3: 0.01}, 9, True), ({30: 9}, 20, False)],
)
def test_climb_ends_at_the_first_bar_that_is_not_reached(bars, rounds, stopped):
    """A fit goes on over the bars that it reaches, and one that is over is not stopped."""
    fit = Steps()
    assert climb(fit, bars) is stopped
    assert len(fit.history) == rounds
