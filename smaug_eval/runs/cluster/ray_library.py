"""Wrap all that we use of Ray: joining a cluster, looking at its machines, workers and what streams back from them.

Workers import this module before they have the driver's environment: nothing heavy is imported here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.runs.cluster.options import AUTO, ClusterOptions
from smaug_eval.runs.cluster.probe import Facts, WorkerSetting, look_around
from smaug_eval.runs.cluster.worker import Worker

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before the import, which reads it
try:
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise SmaugError("--ray: Ray is not installed", fix="pip install 'smaug-eval[ray]'") from error

if TYPE_CHECKING:
    from smaug_eval.runs.cluster.messages import Message, Order
    from smaug_eval.runs.cluster.needs import Need

LOOK_SECONDS = 180.0
"""For a machine to start a process and answer."""
FETCH_SECONDS = 120.0
KNOCK_SECONDS = 10.0
"""For the head of a cluster to accept a connection."""

Waiting = Any
"""What can be waited for: a stream of messages, or a reference to a result."""


class Lost(Exception):
    """Report that a worker, or what it sent, is gone; the message gives the reason."""


@dataclass(frozen=True)
class Node:
    """Describe a machine of the cluster.

    Attributes:
        id: Ray's.
        address: For the user.
        resources: In all, under Ray's names.
    """

    id: str
    address: str
    resources: dict[str, float]

    @property
    def works(self) -> bool:
        """Return whether it has cores to work with; a head node often has none."""
        return self.resources.get("CPU", 0) > 0


@contextlib.contextmanager
def joined(options: ClusterOptions) -> Iterator[None]:
    """Join the cluster inside; where the process has joined one already, use that.

    Raises:
        SmaugError: it cannot be reached.
    """
    if ray.is_initialized():
        yield
        return
    if options.address.startswith("ray://"):
        raise SmaugError(
            f"--ray {options.address}: the run keeps its records where it is started, and cannot be started from afar",
            fix="start it on a machine of the cluster with --ray auto",
        )
    address = None if options.address == AUTO else options.address
    _check_reachable(address or os.environ.get("RAY_ADDRESS", ""))
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=None if address else False)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise SmaugError(
            f"--ray {options.address}: no cluster can be reached: {error}",
            fix="start one (ray start --head), give its HOST:PORT, or auto for one on this machine",
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_term)  # Ray has put an exit of its own there
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Knock at ``HOST:PORT``, where Ray would try for a quarter of an hour and not be stopped by Ctrl-C.

    Raises:
        SmaugError: nobody opens within ``KNOCK_SECONDS``.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return  # another form, which Ray judges at once
    deadline = time.monotonic() + KNOCK_SECONDS
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()
        except (OSError, OverflowError) as error:
            if isinstance(error, ConnectionRefusedError) and time.monotonic() < deadline:
                time.sleep(KNOCK_SECONDS / 10)  # it may be starting
                continue
            raise SmaugError(
                f"--ray {address}: no cluster can be reached: {error}",
                fix="start one (ray start --head), give its HOST:PORT, or auto for one on this machine",
            ) from error
        return


def nodes() -> list[Node]:
    """Return the machines that are alive."""
    return [
        Node(each["NodeID"], f"{each['NodeManagerHostname']} ({each['NodeManagerAddress']})", dict(each["Resources"]))
        for each in ray.nodes()
        if each["Alive"]
    ]


def look_at(machines: Sequence[Node], setting: WorkerSetting) -> list[Facts]:
    """Return what is found on each machine.

    Raises:
        SmaugError: one does not answer, or does not have our code.
    """
    look = ray.remote(look_around)
    asked = [
        look.options(num_cpus=0, max_retries=0, scheduling_strategy=_on(node.id)).remote(
            setting, gpus=node.resources.get("GPU", 0) > 0
        )
        for node in machines
    ]
    found = []
    for node, answer in zip(machines, asked, strict=True):
        try:
            found.append(ray.get(answer, timeout=LOOK_SECONDS))
        except RayError as error:
            raise SmaugError(
                f"--ray: machine {node.address} cannot run smaug-eval: {last_line(error)}",
                fix="install the same smaug-eval there, in the environment that `ray start` is run in",
            ) from error
    return found


class RayChoices:
    """Hold what the workers have agreed on; an actor beside the driver."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], Any] = {}

    def settle(self, scope: str, name: str, value: Any, anew: bool) -> Any:
        """Return the choice that holds: the first, or this one if ``anew``."""
        if anew:
            self._made[scope, name] = value
        return self._made.setdefault((scope, name), value)


class WorkerProcess:
    """Run a worker on some machine, where Ray finds room for it.

    Args:
        setting: Of the driver.
        need: What it may use.
        choices: From :func:`make_choices`.

    Attributes:
        arrival: Can be waited for: the worker has found a place, and :meth:`arrived` says what is there.
    """

    def __init__(self, setting: WorkerSetting, need: Need, choices: Any) -> None:
        cls = ray.remote(_RayWorker)
        self._actor = cls.options(
            num_cpus=need.cpus, num_gpus=need.gpus, memory=need.memory or None, max_restarts=0, max_task_retries=0
        ).remote(setting, choices)
        self.arrival: Waiting = self._actor.arrive.remote()

    def arrived(self) -> tuple[Facts, str]:
        """Return what is there, and the machine's id.

        Raises:
            Lost: the worker is no more.
        """
        try:
            facts, node = ray.get(self.arrival, timeout=FETCH_SECONDS)
        except RayError as error:
            raise Lost(last_line(error)) from error
        return facts, node

    def work(self, order: Order) -> Waiting:
        """Send it an order, and return the stream of its messages."""
        return self._actor.work.options(num_returns="streaming").remote(order)

    def dismiss(self) -> None:
        """End the process, and give back what it used."""
        with contextlib.suppress(RayError):
            ray.kill(self._actor)


class _RayWorker(Worker):
    """A worker as Ray makes it."""

    def __init__(self, setting: WorkerSetting, choices: Any) -> None:
        super().__init__(setting, lambda *choice: ray.get(choices.settle.remote(*choice)))

    def arrive(self) -> tuple[Facts, str]:
        """What is there, and where."""
        return self.facts(), ray.get_runtime_context().get_node_id()


def make_choices() -> Any:
    """Make the actor of :class:`RayChoices`, on the driver's machine."""
    here = ray.get_runtime_context().get_node_id()
    return ray.remote(RayChoices).options(num_cpus=0, scheduling_strategy=_on(here)).remote()


def wait(waiting: Sequence[Waiting], seconds: float) -> list[Waiting]:
    """Return those of which something can be had, waiting so long for the first of them."""
    ready, _ = ray.wait(list(waiting), num_returns=1, timeout=seconds)
    if ready and len(waiting) > 1:
        ready, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
    return list(ready)


def next_message(stream: Waiting) -> Message:
    """Return the next message of a stream that :func:`wait` found ready.

    Raises:
        Lost: the worker, or the message, is no more.
    """
    try:
        message: Message = ray.get(next(stream), timeout=FETCH_SECONDS)
    except StopIteration:
        raise Lost("the worker ended without a result") from None
    except RayError as error:
        raise Lost(last_line(error)) from error
    return message


def last_line(error: BaseException) -> str:
    """Return an error of Ray in one line: the end of a traceback, else the beginning."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if "Traceback" in str(error) else lines[0]


def _on(node: str) -> Any:
    return NodeAffinitySchedulingStrategy(node, soft=False)
