"""nipype's MultiProc, made to survive a worker that is killed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from copy import deepcopy
from multiprocessing import get_context
from typing import Any

from nipype.pipeline.plugins.multiproc import MultiProcPlugin, process_initializer, run_node

KILLED = "WorkerKilled: the worker was killed twice, the second time running alone (out of memory?)"


def _begin_worker(cwd: str, quiet: bool) -> None:
    """Set up a worker process; nipype's own words stay off the terminal if `quiet`."""
    process_initializer(cwd)
    if quiet:
        for name in ("nipype", "nipype.workflow", "nipype.utils", "nipype.interface"):
            logging.getLogger(name).handlers.clear()
            logging.getLogger(name).propagate = False


class ResilientPlugin(MultiProcPlugin):  # type: ignore[misc]
    """Run nodes in worker processes; a killed worker costs a retry, not the run.

    When a worker dies, Python gives up its whole pool, so that all nodes that
    were running are lost. Each of them is run again alone, with nothing beside
    it; a node whose worker dies again is reported as failed and the rest goes on.

    Plugin arguments are those of MultiProc, and `on_failure` (called with the
    node and the text of its error) and `quiet` (nothing of nipype on the terminal).
    """

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        super().__init__(plugin_args=plugin_args)
        self.pool = self._new_pool()
        self._nodes: dict[int, tuple[Any, bool]] = {}
        self._lost: list[int] = []
        self._alone: int | None = None
        self._waiting: list[int] = []
        self._failed_alone: set[int] = set()
        self._on_failure: Callable[[Any, str], None] = plugin_args["on_failure"]

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        self._taskid += 1
        self._nodes[self._taskid] = (node, updatehash)
        self._start(self._taskid, self.pool)
        return int(self._taskid)

    def _start(self, taskid: int, pool: ProcessPoolExecutor) -> None:
        node, updatehash = self._nodes[taskid]
        try:
            future = pool.submit(run_node, deepcopy(node), updatehash, taskid)
        except RuntimeError:  # BrokenProcessPool: the pool died between two polls
            self._lost.append(taskid)
            return
        future.add_done_callback(lambda done, taskid=taskid: self._finished(taskid, done))
        self._task_obj[taskid] = future

    def _finished(self, taskid: int, future: Future[Any]) -> None:
        if future.cancelled() or future.exception() is not None:
            self._lost.append(taskid)
        else:
            self._taskresult[taskid] = future.result()

    def _get_result(self, taskid: int) -> Any:
        self._retry_lost()
        if taskid in self._failed_alone:
            return {"result": None, "traceback": [KILLED], "taskid": taskid}
        result = self._taskresult.get(taskid)
        if result is not None and taskid == self._alone:
            self._alone = None
        return result

    def _retry_lost(self) -> None:
        while self._lost:
            taskid = self._lost.pop()
            if taskid == self._alone:
                self._failed_alone.add(taskid)
                self._alone = None
            else:
                self._waiting.append(taskid)
            self._renew_pool()
        # alone means: nothing else is running either
        others = [f for t, f in self._task_obj.items() if not f.done()]
        if self._waiting and self._alone is None and not others:
            self._alone = self._waiting.pop(0)
            self._start(self._alone, self.pool)

    def _renew_pool(self) -> None:
        if not self.pool._broken:
            return
        self.pool.shutdown(wait=False)
        self.pool = self._new_pool()

    def _new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=self.processors,
            initializer=_begin_worker,
            initargs=(self._cwd, self.plugin_args.get("quiet", True)),
            mp_context=get_context(self.plugin_args.get("mp_context")),
        )

    def _send_procs_to_workers(self, updatehash: bool = False, graph: Any = None) -> None:
        if self._alone is None and not self._waiting:
            super()._send_procs_to_workers(updatehash=updatehash, graph=graph)

    def _clear_task(self, taskid: int) -> None:
        self._task_obj.pop(taskid, None)
        self._nodes.pop(taskid, None)
        self._taskresult.pop(taskid, None)

    def _clean_queue(self, jobid: int, graph: Any, result: Any = None) -> Any:
        text = "".join(result["traceback"]) if result and result.get("traceback") else "unknown"
        self._on_failure(self.procs[jobid], text)
        return super()._clean_queue(jobid, graph, result=result)
