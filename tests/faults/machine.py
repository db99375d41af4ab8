"""The queue and its model, side by side, with every operation and every accident as a step: see `test_model`.

Three workers are three repositories on one file, with clocks that the test moves: a worker whose repository is closed
without a farewell has crashed, one that sends no beats while time passes has stalled. After every step the whole
database must be as the model says, and the oracle of the other fault tests must find nothing.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from cesar.api.models import Claim, Job, JobStatus
from cesar.api.queue.losses import MAX_LOST_ALONE, MIN_LOST
from cesar.transcript import Chunk, Segment
from tests.faults.model import Entry
from tests.faults.side_by_side import SideBySide

T = TypeVar("T")
AGES = (0, 0, 0, 0, 1, 1, 2, 5)
"""Which of several: the last one, or one before it."""
VERBS_WITH_A_CLAIM = ("checkpoint", "resume", "mark_begun", "beat", "ask", "fail", "requeue_killed", "release", "end")
VERBS_OF_ANYBODY = ("cancel", "retry", "read", "delete", "submit_again")
VERBS = (
    *("submit", "submit", "submit", "claim", "claim", "claim", "claim", "retry", "fail", "fail", "end", "end"),
    *("checkpoint", "edit", "edit", *VERBS_WITH_A_CLAIM, *VERBS_OF_ANYBODY),
)
EVENTS = (
    *(("time_passes", seconds) for seconds in (1, 20, 61, 700)),
    *(("set_clock", hours) for hours in (-24 * 365, -1, 1, 24)),
    *(("look_on", beats) for beats in (True, False, False)),
    *(("end_worker", says_goodbye) for says_goodbye in (True, False, False, False)),
    *(("end_all", says_goodbye) for says_goodbye in (True, False)),
    *(("prune", days) for days in (0, 0, 30)),
    *(
        ("fail_often", 4),
        ("lose_workers", MIN_LOST),
        ("lose_workers", MAX_LOST_ALONE + 1),
        ("lose_beside_others", MIN_LOST),
    ),
)


class QueueMachine(SideBySide, RuleBasedStateMachine):
    """The rules by which hypothesis generates sequences of operations and accidents."""

    happened: ClassVar[Counter[str]] = Counter()
    reasons: ClassVar[set[str]] = set()

    # Submitting and claiming

    @initialize(count=st.integers(0, 4))
    def some_jobs_are_there(self, count):
        for _ in range(count):
            self.submit(1, 4)

    @rule(verb=st.sampled_from(VERBS), worker=st.integers(0, 2), age=st.sampled_from(AGES), number=st.integers(0, 4))
    def do(self, verb, worker, age, number):
        """One rule for all operations, so that they occur as often as `VERBS` says, whatever is possible at present."""
        if verb in VERBS_WITH_A_CLAIM and self.claimed:
            getattr(self, verb)(worker, self.a_claim(age), number)
        elif verb in VERBS_OF_ANYBODY and self.ids:
            getattr(self, verb)(worker, nth(self.ids, age), number)
        elif verb == "edit" and self.read_before:
            self.edit(worker, nth(self.read_before, age), number)
        elif verb == "submit":
            self.submit(worker, number)
        else:
            self.claim(worker, number)

    def a_claim(self, age):
        """Choose a claim: mostly a valid one, if there is any."""
        held = [job for job in self.claimed if job.claim and self.model.holds(job.id, job.claim)]
        return nth(held, age) if held and age < 2 else nth(self.claimed, age)

    def submit(self, worker, number):
        key = ("a", "b", None, None, None)[number]
        path, priority = ("/of-a-key.wav" if key else "/recording.wav"), worker - 1
        job = Job(audio_path=path, priority=priority, idempotency_key=key)
        new = job.id
        call = self.at(worker)[0].create(job)
        if done := self.both("submit", lambda: self.model.submit(new, (path, priority), key), call):
            assert done[1].id == done[0]
            self.ids.append(done[0])
            self.acknowledged.add(done[0])
            self.read_before.append(done[1])

    def claim(self, worker, number):
        repository, owner, monotonic = self.at(worker)
        call = repository.get_next_queued()
        done = self.both("claim", lambda: self.model.claim(owner, self.wall, monotonic), call)
        assert done is not None
        expected, job = done
        assert (None if job is None else job.id) == (None if expected is None else expected.id)
        if job is not None and expected is not None:
            assert job.claim == Claim(owner=owner, attempt=expected.attempt)
            self.claimed.append(job)
            if number > 0:
                self.resume(worker, job, number)

    # With a claim. Which worker calls does not matter: the claim counts, and it may be lost.

    def beat(self, worker, job, number):
        job.position = float(number)
        repository, owner, monotonic = self.at(worker)
        self.model.tick(owner, monotonic)
        call = repository.heartbeat(job)
        if done := self.both("beat", lambda: self.model.beat(job.id, job.claim, job.position), call):
            assert done[1] == done[0]

    def ask(self, worker, job, number):
        call = self.at(worker)[0].is_cancel_requested(job)
        if done := self.both("ask", lambda: self.model.is_cancel_requested(job.id, job.claim), call):
            assert done[1] == done[0]

    def checkpoint(self, worker, job, number):
        text = f"{job.attempt} {number}"
        chunk = Chunk(number, number + 1, (Segment(number, number + 1, text),), ())
        call = self.at(worker)[0].checkpoint(job, chunk)
        self.both("checkpoint", lambda: self.model.checkpoint(job.id, job.claim, job.position, number, text), call)

    def resume(self, worker, job, number):
        work = "other work" if number == 4 else "the same work"
        call = self.at(worker)[0].resume(job, work)
        if done := self.both("resume", lambda: self.model.resume(job.id, job.claim, work), call):
            assert [chunk.segments[0].text for chunk in done[1]] == done[0]
            self.happened["chunks were found again"] += bool(done[0])

    def fail(self, worker, job, number):
        job.error_code = "native_crash"
        call = self.at(worker)[0].retry_later(job)
        done = self.both("fail", lambda: self.model.retry_later(job.id, job.claim, "native_crash", self.wall), call)
        if done and done[0]:
            assert done[0][0] <= done[1].run_after <= done[0][1]
            self.model.jobs[job.id].run_after = done[1].run_after

    def mark_begun(self, worker, job, number):
        call = self.at(worker)[0].mark_begun(job)
        self.both("begin", lambda: self.model.mark_begun(job.id, job.claim, job.position), call)

    def requeue_killed(self, worker, job, number):
        job.error_code = "out_of_memory"
        call = self.at(worker)[0].requeue_killed(job)
        put_back = self.both(
            "put back", lambda: self.model.requeue_killed(job.id, job.claim, "out_of_memory", self.wall), call
        )
        if put_back:
            assert put_back[1].status is put_back[0]

    def release(self, worker, job, number):
        call = self.at(worker)[0].release(job)
        if done := self.both("release", lambda: self.model.release(job.id, job.claim, self.wall), call):
            assert done[1].status is done[0]

    def end(self, worker, job, number):
        self.write("end", worker, job.model_copy(), list(JobStatus)[number])

    # Without a claim

    def cancel(self, worker, job_id, number):
        repository, owner, monotonic = self.at(worker)
        call = repository.request_cancel(job_id)
        if done := self.both("cancel", lambda: self.model.cancel(job_id, owner, self.wall, monotonic), call):
            assert done[1].status is done[0]

    def retry(self, worker, job_id, number):
        if done := self.both("retry", lambda: self.model.retry(job_id), self.at(worker)[0].retry(job_id)):
            assert done[1].status is done[0]

    def delete(self, worker, job_id, number):
        repository, owner, monotonic = self.at(worker)
        call = repository.delete(job_id)
        if self.both("delete", lambda: self.model.delete(job_id, owner, self.wall, monotonic), call):
            self.acknowledged.discard(job_id)

    def submit_again(self, worker, job_id, number):
        request = ("/other.wav", 1)
        call = self.at(worker)[0].create(Job(id=job_id, audio_path=request[0], priority=request[1]))
        if self.both("submit again", lambda: self.model.submit(job_id, request, None), call):
            self.acknowledged.add(job_id)

    def read(self, worker, job_id, number):
        job = self.run(self.at(worker)[0].get(job_id))
        assert (job is None) == (job_id not in self.model.jobs)
        if job is not None:
            self.read_before.append(job)

    def edit(self, worker, job, number):
        self.write("edit", worker, job.model_copy(update={"priority": number}), list(JobStatus)[number])

    def write(self, what, worker, job, status):
        repository, owner, _ = self.at(worker)
        job.status, job.error_code = status, "broken" if status is JobStatus.ERROR else None
        job.completed_at = self.wall if status.is_final else None
        job.result_text = "text" if status is JobStatus.COMPLETED else None
        wanted = Entry(job.id, job.seq, job.audio_path, job.priority, None, status, version=job.version)
        wanted.result_text, wanted.error_code, wanted.completed_at = job.result_text, job.error_code, job.completed_at
        claim, call = job.claim, repository.update(job)
        if done := self.both(f"{what} {status}", lambda: self.model.update(wanted, claim, owner), call):
            assert done[1] is job
            assert job.status is self.model.jobs[job.id].status

    # Time, and what happens to machines

    @rule(event=st.sampled_from(EVENTS), worker=st.integers(0, 2))
    def something_happens(self, event, worker):
        name, argument = event
        if not (self.in_memory and name in ("end_worker", "end_all", "lose_workers", "lose_beside_others")):
            getattr(self, name)(worker, argument)

    def time_passes(self, worker, seconds):
        self.monotonic += seconds
        self.wall += timedelta(seconds=seconds)

    def set_clock(self, worker, hours):
        self.wall += timedelta(hours=hours)

    def fail_often(self, worker, times):
        for _ in range(times):
            self.wall += timedelta(minutes=11)
            self.claim(worker, 0)
            if self.claimed:
                self.fail(worker, self.claimed[-1], 0)

    def lose_workers(self, worker, times):
        for _ in range(times):
            self.wall += timedelta(minutes=11)
            self.claim(worker, 0)
            if self.claimed:
                self.mark_begun(worker, self.claimed[-1], 0)
            self.end_worker(worker, says_goodbye=False)

    def lose_beside_others(self, worker, times):
        """Between two losses of a job, complete the others, like a worker on a healthy machine."""
        for _ in range(times):
            self.submit(0, 4)
            self.lose_workers(worker, 1)
            for _ in range(2):
                self.submit(2, 4)  # it goes first
                self.claim(worker, 0)
                if self.claimed:
                    self.end(worker, self.claimed[-1], list(JobStatus).index(JobStatus.COMPLETED))

    def end_worker(self, worker, says_goodbye):
        self.close(worker, says_goodbye)
        self.workers[worker] = self.opened(worker)

    def end_all(self, worker, says_goodbye):
        for number in range(3):
            self.close(number, says_goodbye)
        self.workers = [self.opened(number) for number in range(3)]

    def look_on(self, worker, beats):
        """Let a worker monitor the others' heartbeats for a minute; it polls at each of these operations."""
        for _ in range(7):
            self.delete(worker, "no such job", 0)
            if beats and self.claimed:
                self.beat(worker, self.claimed[-1], 1)
            self.monotonic += 12
        self.claim(worker, 0)

    def prune(self, worker, days):
        age = timedelta(days=days)
        call = self.at(worker)[0].prune(age, limit=2)
        done = self.both("prune", lambda: self.model.prune(self.wall - age, 2), call)
        assert done is not None
        assert done[1] == done[0]
        self.happened["jobs were pruned"] += done[0]
        self.acknowledged &= self.model.jobs.keys()

    def close(self, number, says_goodbye):
        repository, owner, _ = self.at(number)
        if not says_goodbye and repository._owner._lock is not None:
            repository._owner._lock.release()  # as the kernel does when a process dies: the lock's file stays
            repository._owner._lock = None
        self.run(repository.close())
        self.model.dead.add(owner)
        self.model.watches.pop(owner, None)

    # What must hold after each step

    @invariant()
    def the_database_is_as_the_model_says(self):
        self.compare()

    @invariant()
    def the_oracle_finds_nothing(self):
        self.ask_the_oracle()


def nth(of: list[T], age: int) -> T:
    """Return the last of them, or one that is this much older."""
    return of[-1 - age % len(of)]


class MemoryMachine(QueueMachine):
    """One repository, in memory: there can be no other."""

    in_memory = True
    happened: ClassVar[Counter[str]] = Counter()
    reasons: ClassVar[set[str]] = set()
