"""The runs of a workbench: one under way at most, what it holds, the history, the devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING

from flashmem_lab.errors import Cancelled, FlashMemError
from flashmem_lab.trace import RunRow
from flashmem_lab.views import markup
from flashmem_lab.views.compare import CompareView, prepare
from flashmem_lab.views.controls import Controls
from flashmem_lab.views.engine import Engine
from flashmem_lab.views.live import Live
from flashmem_lab.views.past import RunLog, past
from flashmem_lab.views.running import Runner
from flashmem_lab.worker.jobs import Held, Message, Step

if TYPE_CHECKING:
    from flashmem_lab.devices import DeviceState
    from flashmem_lab.outcome import Outcome
    from flashmem_lab.plan import Plan
    from flashmem_lab.prepared import Prepared


class Runs:
    """Runs plans in the background and shows how far they are and what they gave.

    Args:
        engine: runs, and knows the devices.
        controls: say how to run, and show how far it is.
        live: shows what a run holds.
        compare: shows any two of them.
        log: the history.
        done: called with what a run gave, after it was shown.
        found: called with the devices that there are, after a look for them.

    Attributes:
        runner: what is under way.
        looker: the same of a look for devices.
    """

    def __init__(
        self,
        engine: Engine,
        controls: Controls,
        live: Live,
        compare: CompareView,
        log: RunLog,
        done: Callable[[Outcome], None],
        found: Callable[[Sequence[DeviceState]], None],
    ) -> None:
        self._engine, self._controls, self._live = engine, controls, live
        self._compare, self._done, self._found = compare, done, found
        self._log = log
        self.runner: Runner[Outcome] = Runner(self._heard, self._ended)
        self.looker: Runner[Sequence[DeviceState]] = Runner(self._heard, self._looked)
        if log.runs:
            compare.show(log.runs)
            controls.report("", markup.history(log.runs))

    def start(self, prepared: Prepared, plan: Plan) -> None:
        """Runs a plan, as often and with the comparison that the controls say."""
        repeat = self._controls.run_bar.repeat
        check = self._controls.run_bar.check and not plan.device.startswith("sim:")
        self._controls.begin_run()
        self._live.begin(plan.budget_bytes)
        prepare()
        self.runner.start(
            lambda hear, stop: self._engine.run(
                prepared, plan, repeat=repeat, check=check, hear=hear, stop=stop
            )
        )

    def look(self) -> None:
        """Looks for devices again."""
        if self.looker.job is not None or self.runner.job is not None:
            return
        self._controls.choices.looking = True
        if not self.looker.start(lambda hear, stop: self._engine.devices()):
            with suppress(FlashMemError):
                self.looker.wait()

    def close(self) -> None:
        """Stops what is under way."""
        self.runner.close()
        self.looker.close()

    def _heard(self, message: Message) -> None:
        """Shows how far a run is, or what it holds."""
        if isinstance(message, Step):
            self._controls.run_bar.progress_to(message.what, message.done, message.total)
        elif isinstance(message, Held):
            self._live.hear(message)

    def _ended(self, job: Future[Outcome]) -> None:
        """Shows what a run gave, or why it gave nothing; plan and edits stay as they are."""
        self._controls.run_bar.busy = False
        self._live.end()
        error = job.exception()
        if isinstance(error, Cancelled):
            self._controls.run_bar.say("stopped; plan and edits are as they were")
        elif error is not None:
            self._controls.fail(error)
            self.look()  # the device may have gone
        else:
            self._show(job.result())

    def _show(self, outcome: Outcome) -> None:
        label = f"{outcome.device.id} {outcome.program.precision} {outcome.program.strategy}"
        row = RunRow.of(label, outcome.to_json())
        self._log.add(past(row, outcome.result.trace))
        self._compare.show(self._log.runs)
        self._controls.report(markup.result(row), markup.history(self._log.runs))
        self._done(outcome)

    def _looked(self, job: Future[Sequence[DeviceState]]) -> None:
        self._controls.choices.looking = False
        if job.exception() is None:  # else the devices are as they were, and a run says why
            self._found(job.result())
