"""How nodes are run: nipype's MultiProc made to survive a killed worker, or a cluster's plugin."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from copy import deepcopy
from functools import partial
from multiprocessing import get_context
from typing import Any

from nipype.pipeline.plugins.multiproc import MultiProcPlugin, process_initializer, run_node

from mrn_prep.cli.cluster import plugin_class, read_plugin_file

KILLED = "WorkerKilled: the worker was killed twice, the second time running alone (out of memory?)"


def _begin_worker(cwd: str, quiet: bool) -> None:
    """Set up a worker process; nipype's own words stay off the terminal if `quiet`."""
    _end_with_parent()
    # Ctrl-C reaches the whole process group: the run decides, and ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process_initializer(cwd)
    if quiet:
        for name in ("nipype", "nipype.workflow", "nipype.utils", "nipype.interface"):
            logging.getLogger(name).handlers.clear()
            logging.getLogger(name).propagate = False


def _end_with_parent() -> None:
    """End this process as soon as the run that started it is gone.

    A run killed by SIGKILL would else leave workers that write into folders
    which the next run is about to use. The parent to the system is the fork
    server, which such workers would keep alive in turn.
    """
    run = multiprocessing.parent_process()

    def wait_and_end() -> None:
        if run is not None:
            run.join()
            os._exit(1)

    threading.Thread(target=wait_and_end, daemon=True).start()


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
        self.pool: ProcessPoolExecutor = self._new_pool()
        self._nodes: dict[int, tuple[Any, bool]] = {}
        self._lost: list[int] = []
        self._alone: int | None = None
        self._waiting: list[int] = []
        self._failed: dict[int, str] = {}
        self._on_failure: Callable[[Any, str], None] = plugin_args["on_failure"]

    def end_workers(self) -> None:
        """End all worker processes, also those that are at work."""
        workers = list((self.pool._processes or {}).values())
        self.pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        self._taskid += 1
        self._nodes[self._taskid] = (node, updatehash)
        self._start(self._taskid, self.pool)
        return int(self._taskid)

    def _start(self, taskid: int, pool: ProcessPoolExecutor) -> None:
        node, updatehash = self._nodes[taskid]
        try:
            future = pool.submit(run_node, deepcopy(node), updatehash, taskid)
        except BrokenProcessPool:  # the pool died between two polls
            self._lost.append(taskid)
            return
        future.add_done_callback(partial(self._finished, taskid))
        self._task_obj[taskid] = future

    def _finished(self, taskid: int, future: Future[Any]) -> None:
        if future.cancelled():
            self._lost.append(taskid)
            return
        error = future.exception()
        if error is None:
            self._taskresult[taskid] = future.result()
        elif isinstance(error, BrokenProcessPool):
            self._lost.append(taskid)
        else:  # such as a result that cannot be sent back
            self._failed[taskid] = "".join(traceback.format_exception(error))

    def _get_result(self, taskid: int) -> Any:
        self._retry_lost()
        result = self._taskresult.get(taskid)
        if taskid in self._failed:
            result = {"result": None, "traceback": [self._failed[taskid]], "taskid": taskid}
        if result is not None and taskid == self._alone:
            self._alone = None
        return result

    def _retry_lost(self) -> None:
        while self._lost:
            taskid = self._lost.pop()
            if taskid == self._alone:
                self._failed[taskid] = KILLED
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
        self._on_failure(self.procs[jobid], error_text(result))
        return super()._clean_queue(jobid, graph, result=result)


def error_text(result: Any) -> str:
    """Return the traceback of a failed node; nipype gives none for one it ran itself."""
    if result and result.get("traceback"):
        return "".join(result["traceback"])
    return traceback.format_exc() if sys.exc_info()[0] else "no reason given"


def cluster_plugin(path: str, progress: Any, failed: Callable[[Any, str], None]) -> Any:
    """Return nipype's own plugin for a cluster, with our progress and our account of failures."""
    base: Any = plugin_class(path)
    _, arguments = read_plugin_file(path)

    class Told(base):  # type: ignore[misc]
        """The cluster's plugin, telling its failures as ours does."""

        def _clean_queue(self, jobid: int, graph: Any, result: Any = None) -> Any:
            failed(self.procs[jobid], error_text(result))
            return super()._clean_queue(jobid, graph, result=result)

    return Told(plugin_args={**arguments, "status_callback": progress})
