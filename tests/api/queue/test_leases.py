"""Reclaiming jobs from workers that are dead, or alive but stuck. No wall clock is involved."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from cesar.api.models import LEASE_TTL_S, Job, JobStatus
from cesar.api.queue.losses import BLAME, MAX_LOST_ALONE, MIN_LOST, delay_after, loss_probability
from cesar.api.repository import JobRepository
from cesar.errors import ClaimLost
from tests.api.support import QueueCase, chunk
from tests.faults.clerk import ClerkProcess


class TestExpiredLeases(QueueCase):
    """One repository holds the claim, `other` monitors it."""

    in_memory = False

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.other = await self.open()

    async def look(self) -> Job | None:
        return await self.other.get_next_queued()

    async def watch(self, seconds: float) -> Job | None:
        """Try to claim every five seconds for this long; return the first job claimed."""
        for _ in range(round(seconds / 5)):
            self.clocks.advance(5)
            if (job := await self.look()) is not None:
                return job
        return None

    async def test_a_claim_that_is_not_renewed_expires(self) -> None:
        await self.queue()
        stuck = await self.claim()
        assert await self.look() is None
        assert await self.watch(LEASE_TTL_S) is None, "not before the lease is over"
        taken = await self.watch(5)
        assert taken is not None
        assert (taken.id, taken.attempt, taken.losses, taken.failures) == (stuck.id, 2, 1, 0)
        assert (await self.reasons(taken))[-2:] == ["lease expired", "claimed"]
        with pytest.raises(ClaimLost):
            await self.repository.heartbeat(stuck)

    async def test_a_renewed_claim_never_expires(self) -> None:
        await self.queue()
        job = await self.claim()
        for number in range(20):
            self.clocks.advance(LEASE_TTL_S / 2)
            if number % 2:
                await self.repository.heartbeat(job)
            else:
                await self.repository.checkpoint(job, chunk(number, number + 1))
            assert await self.look() is None

    async def test_the_lease_counts_from_when_the_monitor_first_saw_the_heartbeat(self) -> None:
        await self.queue()
        await self.claim()
        self.clocks.advance(10 * LEASE_TTL_S)
        assert await self.look() is None, "who has only just come can't know how long the beat stands still"

    async def test_leases_ignore_the_wall_clock(self) -> None:
        await self.queue()
        await self.claim()
        assert await self.look() is None
        self.clocks.now += timedelta(days=365)
        assert await self.look() is None
        self.clocks.now -= timedelta(days=730)
        assert await self.look() is None

    async def test_a_repository_reclaims_its_own_expired_claim(self) -> None:
        await self.queue()
        forgotten = await self.claim()
        for _ in range(round(LEASE_TTL_S / 5) + 1):
            assert await self.repository.get_next_queued() is None
            self.clocks.advance(5)
        assert (await self.claim()).id == forgotten.id

    async def test_a_job_with_a_cancel_request_is_cancelled_when_it_is_reclaimed(self) -> None:
        await self.queue()
        job = await self.claim()
        await self.look()
        await self.other.request_cancel(job.id)
        assert await self.watch(LEASE_TTL_S + 5) is None
        job = await self.read(job)
        assert (job.status, job.completed_at) == (JobStatus.CANCELLED, self.clocks.now)

    async def test_the_worker_of_a_reclaimed_and_deleted_job_gets_claim_lost(self) -> None:
        await self.queue()
        zombie = await self.claim()
        await self.look()
        taken = await self.watch(LEASE_TTL_S + 5)
        assert taken is not None
        await self.other.release(taken)
        await self.other.delete(zombie.id)
        for keep in (self.repository.heartbeat, self.repository.is_cancel_requested, self.repository.update):
            with pytest.raises(ClaimLost):
                await keep(zombie)

    async def test_a_monitor_does_not_count_time_in_which_it_slept(self) -> None:
        await self.queue()
        await self.claim()
        assert await self.look() is None
        self.clocks.advance(10 * LEASE_TTL_S)  # the machine was suspended, with both of them
        assert await self.look() is None

    async def test_a_monitor_that_polls_rarely_notices_an_expired_claim(self) -> None:
        await self.queue()
        stuck = await self.claim()
        for _ in range(10):
            self.clocks.advance(LEASE_TTL_S / 2 + 1)
            if (taken := await self.look()) is not None:
                break
        assert taken is not None
        assert taken.id == stuck.id

    async def test_each_repository_may_have_its_own_lease_length(self) -> None:
        hasty = await self.open(lease_ttl_s=2.0)
        await self.queue()
        job = await self.claim()
        assert job.claim is not None
        assert job.claim.lease_ttl_s == LEASE_TTL_S
        for _ in range(5):
            assert await self.look() is None
            assert await hasty.get_next_queued() is None
            self.clocks.advance(0.5)
        assert await self.look() is None
        taken = await hasty.get_next_queued()
        assert taken is not None
        assert taken.claim is not None
        assert taken.claim.lease_ttl_s == 2.0, "its worker must know how often to renew it"


class TestDeadOwners(QueueCase):
    in_memory = False

    async def test_claims_of_a_closed_repository_are_free_at_once(self) -> None:
        await self.queue()
        job = await self.claim()
        await self.repository.close()
        self.repository = await self.open()
        again = await self.claim()
        assert (again.id, again.attempt, again.losses) == (job.id, 2, 1)
        assert (await self.reasons(again))[-2:] == ["worker died", "claimed"]

    async def test_claims_of_an_open_repository_are_not_free(self) -> None:
        await self.queue()
        await self.claim()
        other = await self.open()
        assert await other.get_next_queued() is None

    async def test_owners_are_seen_alive_through_another_path_of_the_file(self) -> None:
        await self.queue()
        await self.claim()
        (self.folder / "link.db").symlink_to(self.file)
        other = await self.open(self.folder / "link.db")
        assert await other.get_next_queued() is None

    @pytest.mark.slow
    async def test_claims_of_a_killed_process_are_free_at_once(self) -> None:
        queued = await self.queue()
        with ClerkProcess(self.file) as process:
            assert process.ask("claim") is not None
            assert await self.repository.get_next_queued() is None, "it lives"
            process.kill()
        job = await self.claim()
        assert (job.id, job.attempt, job.losses) == (queued.id, 2, 1)

    async def test_a_closed_owner_leaves_no_files(self) -> None:
        await self.queue()
        await self.claim()
        locks = self.folder / "queue.db-owners"
        assert sorted(path.suffix for path in locks.iterdir()) == [".lock", ".works"]
        await self.repository.close()
        assert list(locks.iterdir()) == []

    @pytest.mark.slow
    async def test_a_process_killed_without_a_claim_leaves_no_files(self) -> None:
        with ClerkProcess(self.file) as process:
            process.ask("claim")
            process.kill()
        await self.repository.get_next_queued()
        assert {left.stem for left in (self.folder / "queue.db-owners").iterdir()} == {self.repository._owner.name}

    async def test_cancelling_and_deleting_notice_a_dead_owner(self) -> None:
        for _ in range(2):
            await self.queue()
        cancelled, deleted = await self.claim(), await self.claim()
        await self.repository.close()
        self.repository = await self.open()
        assert (await self.repository.request_cancel(cancelled.id)).status is JobStatus.CANCELLED
        await self.repository.delete(deleted.id)
        assert [job.id for job in await self.repository.list_all()] == [cancelled.id]


class LossCase(QueueCase):
    """Jobs that lose worker after worker."""

    in_memory = False

    async def lose_worker(self, *, begins: bool = True, checkpoint: float | None = None) -> Job:
        """Wait until a job is due, claim it, and die; return it as it was claimed."""
        worker = await self.open()
        while (job := await worker.get_next_queued()) is None:
            self.clocks.advance(60)
        if begins:
            await worker.mark_begun(job)
        if checkpoint is not None:
            await worker.checkpoint(job, chunk(checkpoint, checkpoint + 1))
        await worker.close()
        return job

    async def notice(self) -> None:
        """Have the loss recorded."""
        await self.repository.request_cancel((await self.queue()).id)

    async def lose_another(self) -> None:
        """Show that others lose their workers too; then remove that job."""
        other = await self.queue("/other.wav", priority=2)
        assert (await self.lose_worker()).id == other.id
        await self.repository.request_cancel(other.id)

    async def complete_others(self, count: int) -> None:
        for _ in range(count):
            await self.complete_another()

    async def complete_another(self) -> None:
        """Show that the machine works."""
        other = await self.queue("/other.wav", priority=1)
        job = await self.claim()
        assert job.id == other.id
        job.status = JobStatus.COMPLETED
        await self.repository.update(job)


class TestWhatCountsAgainstAJob(LossCase):
    @pytest.mark.slow
    async def test_a_worker_lost_before_recognition_began_does_not_count_against_the_job(self) -> None:
        await self.queue()
        for _ in range(3 * MAX_LOST_ALONE):
            assert (await self.lose_worker(begins=False)).lost == 0
            await self.complete_another()
        assert (await self.lose_worker()).status is JobStatus.PROCESSING

    async def test_recognition_begun_in_one_attempt_does_not_count_for_the_next(self) -> None:
        await self.queue()
        await self.lose_worker()
        for _ in range(3):
            await self.complete_another()
            assert (await self.lose_worker(begins=False)).lost == 1

    async def test_a_job_ends_at_its_sixth_loss_if_ten_others_completed_and_none_was_lost(self) -> None:
        poison = await self.queue()
        for number in range(MIN_LOST):
            assert (await self.lose_worker()).lost == number
            await self.complete_others(2)
        job = await self.read(poison)
        assert (job.status, job.error_code, job.lost, job.owner) == (JobStatus.ERROR, "worker_lost", MIN_LOST, None)
        assert job.error_message is not None
        assert f"the worker was lost {MIN_LOST} times in a row" in job.error_message
        assert job.error_hint
        assert job.completed_at == self.clocks.now

    @pytest.mark.slow
    async def test_fewer_completed_jobs_allow_more_losses(self) -> None:
        poison = await self.queue()
        while (await self.read(poison)).status is not JobStatus.ERROR:
            await self.lose_worker()
            await self.complete_others(1)
        assert (await self.read(poison)).lost == 8

    @pytest.mark.slow
    async def test_jobs_completed_before_the_losses_do_not_count(self) -> None:
        await self.complete_others(30)
        poison = await self.queue()
        for _ in range(MAX_LOST_ALONE - 1):
            await self.lose_worker()
        await self.notice()
        assert (await self.read(poison)).status is JobStatus.QUEUED

    @pytest.mark.slow
    async def test_a_job_that_lost_workers_as_often_as_others_does_not_end(self) -> None:
        """As where a service is killed every few seconds by something else."""
        unlucky = await self.queue()
        for _ in range(MIN_LOST + 2):
            await self.lose_worker()
            await self.complete_others(2)
            await self.lose_another()
        assert ((await self.read(unlucky)).status, (await self.read(unlucky)).lost) == (JobStatus.QUEUED, MIN_LOST + 2)

    @pytest.mark.slow
    async def test_losses_before_recognition_began_exonerate_a_job(self) -> None:
        unlucky = await self.queue()
        for _ in range(MIN_LOST):
            await self.lose_worker(begins=False)
            await self.lose_worker()
            await self.complete_others(2)
        assert ((await self.read(unlucky)).status, (await self.read(unlucky)).lost) == (JobStatus.QUEUED, MIN_LOST)

    @pytest.mark.slow
    async def test_a_second_poisonous_job_does_not_exonerate_the_first(self) -> None:
        jobs = [await self.queue(), await self.queue()]
        while any(not job.status.is_final for job in jobs):
            await self.lose_worker()
            await self.complete_others(4)
            jobs = [await self.read(job) for job in jobs]
        assert [(job.status, job.error_code) for job in jobs] == 2 * [(JobStatus.ERROR, "worker_lost")]
        assert max(job.lost for job in jobs) <= MIN_LOST + 2

    @pytest.mark.slow
    async def test_repeated_kills_without_completed_jobs_end_no_job(self) -> None:
        """As by the system, for want of memory that something else has taken."""
        jobs = [await self.queue() for _ in range(3)]
        for _ in range(6 * MAX_LOST_ALONE):
            await self.lose_worker()
        await self.notice()
        stored = [await self.read(job) for job in jobs]
        assert {job.status for job in stored} == {JobStatus.QUEUED}
        assert min(job.lost for job in stored) > MAX_LOST_ALONE

    @pytest.mark.slow
    async def test_a_job_that_alone_loses_workers_ends_at_last(self) -> None:
        poison = await self.queue()
        for _ in range(MAX_LOST_ALONE):
            await self.lose_worker()
        await self.notice()
        job = await self.read(poison)
        assert (job.status, job.error_code, job.lost) == (JobStatus.ERROR, "worker_lost", MAX_LOST_ALONE)

    @pytest.mark.slow
    async def test_a_checkpoint_resets_the_count_of_losses_but_a_heartbeat_does_not(self) -> None:
        await self.queue()
        for number in range(3 * MIN_LOST):
            job = await self.lose_worker(checkpoint=number)
            await self.complete_another()
        assert (job.attempt, job.lost, job.losses) == (3 * MIN_LOST, 1, 1)

    @pytest.mark.slow
    async def test_a_manual_retry_resets_the_count_of_losses(self) -> None:
        poison = await self.queue()
        for _ in range(MIN_LOST):
            await self.lose_worker()
            await self.complete_others(2)
        again = await self.repository.retry(poison.id)
        assert (again.lost, again.losses, again.run_after) == (0, 0, None)

    @pytest.mark.slow
    async def test_workers_that_stop_properly_are_not_losses(self) -> None:
        await self.queue()
        for _ in range(2 * MIN_LOST):
            worker: JobRepository = await self.open()
            job = await self.claim(worker)
            await worker.mark_begun(job)
            await worker.release(job)
            await worker.close()
        job = await self.claim()
        assert (job.lost, job.losses) == (0, 0)

    async def test_a_lost_claim_cannot_mark_recognition_as_begun(self) -> None:
        await self.queue()
        job = await self.claim()
        await self.repository.release(job.model_copy())
        with pytest.raises(ClaimLost):
            await self.repository.mark_begun(job)
        assert (await self.read(job)).begun == 0


@pytest.mark.parametrize("lost", range(1, 25))
@pytest.mark.parametrize("among", [(0, 0), (0, 6), (3, 10), (17, 20)])
def test_the_loss_probability_is_that_of_drawing_all_losses_by_lot(lost: int, among: tuple[int, int]) -> None:
    """Of all orders of the losses and completions, those in which the job's come after all the others' losses."""
    among_lost, among_done = among
    ways = math.comb(among_lost + among_done + 1 + lost, lost)
    expected = math.comb(among_lost + lost, lost) / ways
    assert loss_probability(lost, among_lost=among_lost, among_done=among_done) == pytest.approx(expected)


def test_six_losses_beside_ten_completed_jobs_first_pass_the_threshold() -> None:
    assert loss_probability(6, among_lost=0, among_done=10) <= BLAME < loss_probability(6, among_lost=0, among_done=9)


class TestWaiting(LossCase):
    async def test_a_job_keeps_its_position_after_one_loss_and_waits_after_more(self) -> None:
        first, second = await self.queue(), await self.queue()
        assert [(await self.lose_worker()).id for _ in range(3)] == [first.id, first.id, second.id]

    @pytest.mark.slow
    async def test_the_delay_grows_with_each_loss_up_to_ten_minutes(self) -> None:
        job = await self.queue()
        waits = []
        for _ in range(12):
            await self.lose_worker(begins=True)
            await self.notice()
            run_after = (await self.read(job)).run_after
            waits.append(0.0 if run_after is None else (run_after - self.clocks.now).total_seconds())
        assert waits[:2] == [0, 15 / 8]
        assert waits == sorted(waits)
        assert len(set(waits[:10])) == 10
        assert waits[-1] == 600

    @pytest.mark.slow
    async def test_losses_before_recognition_began_delay_a_minute_at_most(self) -> None:
        for losses in range(1, 8):
            assert delay_after(losses, timedelta(seconds=15)) <= timedelta(seconds=60)
        job = await self.queue()
        for _ in range(30):
            await self.lose_worker(begins=False)
        await self.notice()
        assert (await self.read(job)).losses == 7


class TestKilledRecogniser(LossCase):
    """The worker lives, and tells."""

    async def requeue_killed(self) -> Job:
        while (job := await self.repository.get_next_queued()) is None:
            self.clocks.advance(60)
        job.error_code, job.error_message, job.error_hint = "out_of_memory", "It was killed.", "Use less."
        return await self.repository.requeue_killed(job)

    async def test_a_killed_recogniser_delays_its_job_and_ends_it_only_while_others_complete(self) -> None:
        await self.queue()
        for number in range(1, 2 * MIN_LOST):
            job = await self.requeue_killed()
            assert (job.status, job.lost, job.losses, job.failures) == (JobStatus.QUEUED, number, number, 0)
            assert (job.error_code, job.error_message) == ("out_of_memory", "It was killed.")
        await self.complete_others(10)
        job = await self.requeue_killed()
        assert (job.status, job.lost, job.error_code) == (JobStatus.ERROR, 2 * MIN_LOST, "out_of_memory")
        assert (await self.reasons(job))[-1] == "out_of_memory"

    async def test_a_job_with_a_cancel_request_is_cancelled_when_its_recogniser_is_killed(self) -> None:
        await self.queue()
        job = await self.claim()
        await self.repository.request_cancel(job.id)
        assert (await self.repository.requeue_killed(job)).status is JobStatus.CANCELLED
