"""Driver: follows a cluster whose nodes come and go, on a simulated one."""

import math
from dataclasses import replace

import pytest

from inr_factory.benchmarks.simulated_ray import RayError, SimulatedRay
from inr_factory.errors import IntegrityError, ResourceError
from inr_factory.generation.execution import ray_driver as module
from inr_factory.generation.execution.ray_driver import Driver
from inr_factory.generation.execution.ray_pool import gpu_share
from inr_factory.generation.execution.scheduler import Scheduler
from inr_factory.generation.execution.shard_plan import ShardTask
from inr_factory.generation.execution.worker_events import MAX_DEATHS, Listener
from inr_factory.generation.fitting.tally import Tally
from inr_factory.storage.manifest import ShardEntry

TASKS = [ShardTask("train", 0, block) for block in range(60)]


def entry(task):
    return ShardEntry(
        path=task.path, split="train", view=0, block=task.block, rows=1, bytes=1, sha256="0" * 64, psnr=None,
        mean_steps=None,
    )  # fmt: skip


class Cluster:
    """A run of all tasks on a simulated cluster: each shard takes ten seconds, but what `slow` says of it."""

    def __init__(self, nodes, count=None, slow=None, tasks=TASKS, window=1):
        self.made, self.deaths = [], []
        slow = slow or (lambda actor, task: 10.0)
        self.ray = SimulatedRay(nodes, lambda actor, task: (slow(actor, task), entry(task)))
        listener = Listener(lambda *_: None, self._done, lambda task, why: self.deaths.append((task, why)))
        scheduler = Scheduler(tasks, len(tasks), window)
        self.driver = Driver(
            self.ray, self.ray.start_actor, scheduler, listener, "CPU", count, clock=lambda: self.ray.now
        )

    def _done(self, task, made):
        assert made.path == task.path
        self.made.append(task)

    def run(self):
        self.driver.run()
        assert sorted(self.made, key=TASKS.index) == TASKS
        return self

    def nodes_used(self):
        return [node for _, node, _ in self.ray.runs]


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch):
    monkeypatch.setattr(module, "sleep", lambda _: pytest.fail("it waits in real time"))


def test_a_cluster_has_an_actor_a_core_and_each_shard_is_made_once():
    cluster = Cluster({"a": 2, "b": 3}).run()
    assert len(cluster.ray.actors) == 5
    assert len(cluster.ray.runs) == 60
    assert cluster.ray.now == pytest.approx(120, abs=1)
    assert not cluster.deaths


def test_there_are_no_more_actors_than_were_asked_for_or_shards_to_make():
    assert len(Cluster({"a": 8}, count=3).run().ray.actors) == 3
    few = Cluster({"a": 100})
    few.run()
    assert len({name for name, _, _ in few.ray.runs}) == 60


def test_a_node_that_joins_during_the_run_is_used():
    cluster = Cluster({"a": 2})
    cluster.ray.at(33, lambda: cluster.ray.add_node("b", 4))
    cluster.run()
    assert cluster.nodes_used().count("b") > cluster.nodes_used().count("a")
    assert cluster.ray.now < 160


def test_the_shards_of_a_lost_node_go_to_others_and_no_one_waits_for_it():
    cluster = Cluster({"a": 2, "b": 2})
    cluster.ray.at(35, lambda: cluster.ray.remove_node("b"))
    cluster.run()
    assert [why for _, why in cluster.deaths] == ["its node is gone"] * 2
    assert len(cluster.ray.actors) == 2
    assert cluster.ray.now < 320


def test_a_node_that_goes_again_and_again_is_not_the_shards_fault():
    cluster = Cluster({"a": 1}, tasks=TASKS)

    def come_and_go(round_number):
        if round_number < 2 * MAX_DEATHS:
            cluster.ray.add_node(f"b{round_number}", 1)
            cluster.ray.at(cluster.ray.now + 8, lambda: cluster.ray.remove_node(f"b{round_number}"))
            cluster.ray.at(cluster.ray.now + 9, lambda: come_and_go(round_number + 1))

    come_and_go(0)
    cluster.run()
    assert len(cluster.deaths) > 2


def test_a_shard_whose_actor_dies_on_a_node_that_lives_is_given_up_in_the_end():
    cluster = Cluster({"a": 2})

    def deadly(actor, task):
        if task.block == 7:
            cluster.ray.at(cluster.ray.now + 1, lambda: cluster.ray.kill(actor))
        return 10.0, entry(task)

    cluster.ray.make = deadly
    with pytest.raises(ResourceError, match=rf"{MAX_DEATHS} workers died at {TASKS[7].path}"):
        cluster.run()
    assert [task for task, _ in cluster.deaths] == [TASKS[7]] * MAX_DEATHS


def test_a_cluster_that_grows_is_asked_for_its_count_and_works_with_what_has_come():
    cluster, waiting = Cluster({}, count=4), []
    for time in (40, 90, 110):
        cluster.ray.at(time, lambda: waiting.append(len(cluster.ray.waiting)))
    cluster.ray.at(50, lambda: cluster.ray.add_node("a", 1))
    cluster.ray.at(100, lambda: cluster.ray.add_node("b", 2))
    cluster.run()
    assert waiting == [4, 3, 1]
    assert cluster.nodes_used().count("b") > cluster.nodes_used().count("a")


def test_a_straggler_is_overtaken_and_its_result_not_waited_for():
    cluster = Cluster({"a": 2, "b": 1}, slow=lambda actor, task: 10_000.0 if actor.node == "b" else 10.0)
    cluster.run()
    assert cluster.nodes_used().count("b") == 1
    assert cluster.ray.now < 400


def test_a_result_that_comes_after_another_workers_is_not_heard():
    def slow(actor, task):
        return 300.0 if task.block == 59 else 65.0 if actor.node == "b" else 10.0

    cluster = Cluster({"a": 2, "b": 1}, slow=slow).run()
    assert len(cluster.ray.runs) > 60
    assert cluster.ray.now > 300


def test_shards_that_all_take_the_same_are_made_once():
    assert len(Cluster({"a": 7}).run().ray.runs) == 60


def test_an_error_in_a_worker_is_raised_as_it_is():
    cluster = Cluster({"a": 1})
    cluster.ray.make = lambda actor, task: (1.0, IntegrityError("another source"))
    with pytest.raises(IntegrityError, match="another source"):
        cluster.run()
    cluster = Cluster({"a": 1})
    cluster.ray.make = lambda actor, task: (1.0, KeyError("x"))
    with pytest.raises(RuntimeError, match=f"worker failed at {TASKS[0].path}"):
        cluster.run()


def test_actors_that_die_before_they_begin_end_the_run():
    cluster = Cluster({"a": 1})
    start_actor = cluster.driver.start_actor

    def stillborn():
        actor = start_actor()
        actor.started.result = RayError("out of memory")
        return actor

    cluster.driver.start_actor = stillborn
    with pytest.raises(ResourceError, match="died before they began: out of memory"):
        cluster.run()


def test_an_actor_on_a_gpu_makes_three_shards_at_once_after_its_first():
    cluster = Cluster({"a": 2}, window=3).run()
    assert len(cluster.ray.actors) == 2
    assert len(cluster.ray.runs) == 60
    assert cluster.ray.now == pytest.approx(10 + 10 * math.ceil(58 / 6), abs=11)


def test_the_shards_of_an_actor_that_dies_run_alone_and_only_the_deadly_one_is_given_up():
    cluster = Cluster({"a": 2}, window=3)

    def deadly(actor, task):
        if task.block == 7:
            cluster.ray.at(cluster.ray.now + 1, lambda: cluster.ray.kill(actor))
        return 10.0, entry(task)

    cluster.ray.make = deadly
    with pytest.raises(ResourceError, match=rf"{MAX_DEATHS} workers died at {TASKS[7].path}"):
        cluster.run()
    died = [task for task, _ in cluster.deaths]
    assert died.count(TASKS[7]) == MAX_DEATHS + 1
    assert sorted(died.count(task) for task in set(died)) == [1, 1, MAX_DEATHS + 1]


def test_progress_is_that_of_each_shard_of_an_actor():
    cluster, reported = Cluster({"a": 1}, window=3), []
    cluster.driver.listener = replace(
        cluster.driver.listener, progress=lambda *given: reported.append((cluster.ray.now, given))
    )
    progress = dict(zip(TASKS[1:4], map(Tally, range(1, 4)), strict=True))
    start_actor = cluster.driver.start_actor

    def reporting():
        actor = start_actor()
        actor.progress.remote = lambda: actor._after(0.0, progress)
        return actor

    cluster.driver.start_actor = reporting
    cluster.run()
    assert {given for _, given in reported} == set(progress.items())
    assert all(10 <= now <= 20 for now, _ in reported), "tallies of shards that do not run are left out"


@pytest.mark.parametrize(("workers", "gpus", "share"), [(8, 8, 1), (3, 8, 1), (9, 8, 0.5), (7, 1, 0.1428), (4, 0, 1)])
def test_workers_share_the_gpus_of_a_cluster_whose_size_is_known(workers, gpus, share):
    assert gpu_share(workers, gpus) == share
    assert gpus == 0 or workers * share <= gpus


def test_a_thousand_actors_are_asked_for_their_progress_two_hundred_times_a_second():
    asked = []
    tasks = [ShardTask("train", 0, block) for block in range(1000)]
    cluster = Cluster({"a": 1000}, slow=lambda actor, task: 100.0, tasks=tasks)
    after = module.Driver._on_progress
    cluster.driver._on_progress = lambda *observed: (asked.append(observed), after(cluster.driver, *observed))
    cluster.driver.run()
    assert len(cluster.made) == 1000
    assert 1000 < len(asked) <= 200 * 101
