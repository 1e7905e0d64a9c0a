"""The pipeline: steps that batch independently, each with a scheduler of its own, behind the surface of one scheduler.

The same request object goes from step to step, with its deadline, its priority and its abandonment. Everything here
runs on the event loop; the executors of the steps see single steps only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from time import perf_counter_ns

from ..errors import Overloaded, SlipwayError
from ..ragged import filled, held_bytes, is_ragged
from ..request import InferRequest, Journey, StepTimes
from ..tensors import Array
from .admission import UNLIMITED, Probes, too_large, too_late, too_long
from .parts import Part, apart, filled_up, rejoin
from .step import Step, rectangular

log = logging.getLogger("slipway.pipeline")

Record = Callable[[Sequence[StepTimes]], None]


class Pipeline:
    """The steps in order, :meth:`add`-ed before the first request; ``outputs``: numbers of the values to return."""

    def __init__(
        self,
        outputs: Sequence[int],
        *,
        max_queue_ns: int,
        max_queue_bytes: int = UNLIMITED,
        record: Record,
        clock: Callable[[], int] = perf_counter_ns,
    ) -> None:
        """``max_queue_ns`` and ``max_queue_bytes`` hold for all steps together. ``record`` gets the times of every
        answered request."""
        self.steps: list[Step] = []
        self.refusing = False
        self._outputs = tuple(outputs)
        self._max_queue_ns = max_queue_ns
        self._max_queue_bytes = max_queue_bytes
        self._record = record
        self._probes = Probes()
        self._clock = clock

    def add(self, step: Step) -> None:
        """Append a step, whose scheduler reports to :meth:`ended`."""
        self.steps.append(step)

    def submit(self, request: InferRequest, shape: Hashable = None) -> None:  # noqa: ARG002 - each step has its own
        """Admit a request to all steps. Raises Overloaded, with a computed Retry-After, or NotReady when stopped.

        Later steps refuse nothing for load: an admitted request is answered, expires, or fails.
        """
        now_ns = self._clock()
        try:
            self._admit(request, now_ns)
        except Overloaded:
            self.refusing = True
            raise
        self.refusing = False
        journey = request.journey = Journey(request.arrays, request.rows, request.decoded_ns or now_ns)
        try:
            self._enter(request, journey)
        except Exception:
            journey.over = request.abandoned = True  # parts may wait already: they must not end it a second time
            raise

    def foresee(self, deadline_ns: int) -> None:
        """Raises Overloaded where not even a single row would be answered in time."""
        if not self._idle:
            self._admit_in_time(1, self._clock(), deadline_ns)

    def backlog_ns(self) -> int:
        """Predicted wait, over all steps, of a row that arrives now."""
        finish_ns, own_ns = self._predict(1)
        return int(finish_ns - own_ns)

    @property
    def waiting_rows(self) -> int:
        """Rows for which a run of some step has still to be started; a drain waits for them."""
        *before, last = self.steps
        return sum(step.inside for step in before) + last.scheduler.waiting_rows

    def cost_points(self) -> list[tuple[int, int, int]]:
        """Empty: the costs are shown for each step."""
        return []

    def stop(self, patience_s: float | None = None) -> bool:
        """Stop the steps in order, each after its running batches. Returns whether all have ended. Blocks."""
        ended = [step.scheduler.stop(patience_s) for step in self.steps]
        return all(ended)

    def abandon(self) -> None:
        """After :meth:`stop`: end the waiting requests of all steps with NotReady."""
        for step in self.steps:
            step.scheduler.abandon()

    def fail(self, error: SlipwayError) -> None:
        """End all requests of all steps with an error, which new ones get from now on."""
        for step in self.steps:
            step.scheduler.fail(error)

    def check(self) -> None:
        """Look for lost progress in every step; called about once a second."""
        for step in self.steps:
            step.scheduler.check()

    @property
    def stalled(self) -> str:
        """Why a step makes no progress; empty when all do."""
        return next((f"step {one.name}: {one.scheduler.stalled}" for one in self.steps if one.scheduler.stalled), "")

    def ended(self, request: InferRequest) -> None:
        """A step has ended a request, or a part of one: it goes on to the next step, or ends. Raises nothing."""
        journey = request.journey
        assert journey is not None
        step = self.steps[journey.step]
        step.inside -= request.rows
        whole = request.split.whole if isinstance(request, Part) else request
        try:
            if isinstance(request, Part):
                self._part_ended(request, journey, step)
            elif request.error is not None or request.outputs is None:
                self._fail(request, journey)
            else:
                self._passed(request, request, journey, request.outputs)
        except Exception as error:
            if not isinstance(error, SlipwayError):
                log.exception("a request failed between steps step=%s", step.name)
                error = SlipwayError("the server failed on this request; its log has the details")
            whole.error = error
            self._fail(whole, journey)

    def _predict(self, rows: int) -> tuple[float, float]:
        """Nanoseconds until this many more rows would be answered, and how much of it they would take themselves.

        A step is through with them no sooner than the one before it, and no sooner than it has computed all rows that
        are inside now, here or before: these are still to come.
        """
        finish_ns = own_ns = 0.0
        ahead = 0
        for step in self.steps:
            ahead += step.inside
            run_ns = max(step.run_ns(ahead + rows), rows * step.row_ns / step.instances)
            finish_ns = max(finish_ns, ahead * step.row_ns / step.instances) + run_ns
            own_ns += run_ns
        return finish_ns, own_ns

    def _admit(self, request: InferRequest, now_ns: int) -> None:
        if self._idle:
            self._admit_idle(request, now_ns)
            return
        wait_ns = self._admit_in_time(request.rows, now_ns, request.deadline_ns)
        waiting = sum(step.scheduler.waiting_bytes for step in self.steps)
        if waiting and waiting + held_bytes(request.arrays) > self._max_queue_bytes:
            raise too_large(waiting, wait_ns)

    @property
    def _idle(self) -> bool:
        return all(step.idle for step in self.steps)

    def _admit_idle(self, request: InferRequest, now_ns: int) -> None:
        """Admit a request where nothing waits and nothing runs; one that is predicted to be late becomes a probe.

        Raises DeadlineExceeded for a request without a chance, but not for all of them."""
        run_ns = int(sum(step.run_once_ns(request.rows) for step in self.steps))
        late_ns = now_ns + run_ns - request.deadline_ns
        if late_ns <= 0:
            return
        least_ns = int(sum(max(step.least_ns, 0.0) for step in self.steps))
        if not self._probes.allow(now_ns, request.deadline_ns, least_ns, run_ns):
            raise too_late(late_ns, late_ns)
        request.probe = True

    def _admit_in_time(self, rows: int, now_ns: int, deadline_ns: int) -> int:
        """The predicted wait. Raises Overloaded where it, or the finish, is too late. Raises DeadlineExceeded where
        even an idle pipeline would finish too late."""
        finish_ns, own_ns = self._predict(rows)
        wait_ns = int(finish_ns - own_ns)
        if wait_ns > self._max_queue_ns:
            raise too_long(wait_ns, self._max_queue_ns)
        late_ns = now_ns + int(finish_ns) - deadline_ns
        if late_ns > 0:
            alone_ns = sum(one.run_once_ns(rows) for one in self.steps)
            raise too_late(late_ns, now_ns + int(alone_ns) - deadline_ns)
        return wait_ns

    def _enter(self, request: InferRequest, journey: Journey) -> None:
        """Let a request wait for the step that it is at, in parts where its rows are too different in length."""
        step = self.steps[journey.step]
        arrays = step.arrays(journey.values)
        parts = apart(request, arrays, step.spec, step.padding, step.sizes) if journey.rows > 1 else []
        if not parts:
            self._wait(request, step, arrays)
        for part in parts:
            try:
                self._wait(part, step, [array[part.numbers] for array in arrays])
            except SlipwayError as error:
                part.error = error
                self._part_ended(part, journey, step)

    def _wait(self, request: InferRequest, step: Step, arrays: Sequence[Array]) -> None:
        request.arrays = rectangular(arrays, step.spec, step.padding, step.name)
        shape: Hashable = None
        if step.padding is not None:
            request.length = step.padding.length(request.arrays)
            request.filled = filled_up(arrays, request, step.spec, step.padding)
            shape = step.padding.shape(request.arrays)
        else:
            shape = tuple(array.shape[1:] for array in request.arrays)
        objects = [array for array in request.arrays if array.dtype.kind == "O"]
        request.size_bytes = held_bytes(objects)  # the scheduler adds what numpy counts
        step.scheduler.submit(request, shape, admitted=True)
        step.inside += request.rows

    def _part_ended(self, part: Part, journey: Journey, step: Step) -> None:
        """The last part to end brings the whole request on; the first to fail makes the others stop."""
        split = part.split
        request = split.whole
        split.left -= 1
        split.done.append(part)
        if part.error is not None and request.error is None:
            request.error = part.error
            request.abandoned = True
        if split.left:
            return
        if request.error is not None:
            self._fail(request, journey)
        else:
            self._passed(part, request, journey, rejoin(split, step.padding))

    def _passed(self, timed: InferRequest, request: InferRequest, journey: Journey, outputs: Sequence[Array]) -> None:
        """A step is done; ``timed`` is the request, or the part of it that ended last."""
        step = self.steps[journey.step]
        journey.times.append(
            StepTimes(
                step.name,
                timed.picked_ns - journey.entered_ns,
                timed.assembled_ns - timed.picked_ns,
                timed.computed_ns - timed.assembled_ns,
                timed.run_rows,
                timed.computed_ns,
                timed.rows,
            )
        )
        journey.held_ns += timed.held_ns
        journey.values += outputs
        journey.step += 1
        if journey.step == len(self.steps):
            self._answer(request, journey)
            return
        _begin_anew(request)
        journey.entered_ns = self._clock()
        self._enter(request, journey)

    def _answer(self, request: InferRequest, journey: Journey) -> None:
        """The stamps of the whole: each stage is the sum over the steps, what lies between steps counts as scatter."""
        request.held_ns = journey.held_ns
        request.picked_ns = journey.begun_ns + sum(one.queue_ns for one in journey.times)
        request.assembled_ns = request.picked_ns + sum(one.assemble_ns for one in journey.times)
        request.computed_ns = request.assembled_ns + sum(one.compute_ns for one in journey.times)
        request.run_rows = max(journey.times, key=lambda one: one.compute_ns).run_rows
        request.outputs = self._leaving(journey.values)
        request.rows = journey.rows
        request.scattered_ns = self._clock()
        try:
            self._record(journey.times)
        except Exception:
            log.exception("recording the times of a request failed")
        self._conclude(request, journey)

    def _fail(self, request: InferRequest, journey: Journey) -> None:
        """End a request with its error. Parts of it that wait or run are dropped."""
        request.outputs = None
        request.rows = journey.rows
        request.abandoned = True
        self._conclude(request, journey)

    def _conclude(self, request: InferRequest, journey: Journey) -> None:
        journey.values = []
        if not journey.over:
            journey.over = True
            request.ended = False  # set by the scheduler of the last step
            request.end()

    def _leaving(self, values: Sequence[Array]) -> list[Array]:
        """The outputs of the pipeline; ragged rows are padded with zeros at their ends."""
        specs = [*self.steps[0].spec.inputs, *(spec for step in self.steps for spec in step.spec.outputs)]
        leaving = []
        for index in self._outputs:
            array, spec = values[index], specs[index]
            leaving.append(filled(array, spec, 1, 0) if is_ragged(array, spec) else array)
        return leaving


def _begin_anew(request: InferRequest) -> None:
    """Reset the fields that the scheduler of the step before has set."""
    request.outputs = None
    request.joined = None
    request.joined_rows = 0
    request.ended = False
    request.cursor = request.length = request.size_bytes = 0
    request.object_bytes = -1
    request.held_ns = request.picked_ns = request.assembled_ns = request.computed_ns = request.scattered_ns = 0
