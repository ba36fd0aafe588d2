"""The process that hands the parts of a job to Ray: `python -m regard.jobs.ray_driver`, started by running.py.

It reads one pickle from standard input: address, processors and GPUs per part, and the parts. Each line of standard
output is a JSON object with one key: connected, refused, failed or finished. It ends when standard input ends.
"""

import json
import math
import os
import pickle
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from regard.jobs.running import do_payload

RETRIES = 3  # of a part whose process or machine died
AHEAD = 2  # parts that are handed to Ray at a time, per part that runs at a time


def main() -> None:
    """Run the parts, and report to the process that started this one."""
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Ray prints to both
    address, cpus, gpus, work, payloads = pickle.load(sys.stdin.buffer)
    is_connected, is_ended = threading.Event(), threading.Event()

    def watch() -> None:
        sys.stdin.buffer.read()
        is_ended.set()
        if not is_connected.is_set():  # Ray goes on trying, and cannot be interrupted
            os._exit(1)

    def send(**message: Any) -> None:
        if "connected" in message:
            is_connected.set()
        output.write(json.dumps(message) + "\n")
        output.flush()

    threading.Thread(target=watch, daemon=True).start()
    with suppress(BrokenPipeError):
        _run(address, cpus, gpus, work, payloads, is_ended, send)


def _run(
    address: str,
    cpus: float,
    gpus: int,
    work: bytes,
    payloads: dict[int, bytes],
    is_ended: threading.Event,
    send: Callable[..., None],
) -> None:
    ray: Any = import_module("ray")
    host = address.rpartition(":")[0]
    place = {"_node_ip_address": host} if host.startswith("127.") else {}  # otherwise Ray takes that of the network
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **place)
    except Exception as error:
        traceback.print_exc()
        send(refused=f"--ray {address}: {' '.join(str(error).split())[:300]}")
        return
    send(connected=True)
    try:
        if not _slots(ray.nodes(), cpus, gpus):
            what = "no GPU: use --device cpu" if gpus else f"no {cpus:g} processors for a part: use --cpus"
            send(refused=f"The Ray cluster at {address} has {what}.")
            return
        part = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(do_payload)
        waiting, running, shared = deque(payloads), dict[Any, int](), ray.put(work)
        while (waiting or running) and not is_ended.is_set():
            allowed = max(1, AHEAD * _slots(ray.nodes(), cpus, gpus))  # machines come and go
            while waiting and len(running) < allowed:
                number = waiting.popleft()
                running[part.remote(shared, payloads[number])] = number
            done, _ = ray.wait(list(running), timeout=0.5)
            for reference in done:
                number = running.pop(reference)
                try:
                    refused = ray.get(reference)
                except Exception as error:  # of the part, or of the machine after RETRIES
                    traceback.print_exc()
                    cause = getattr(error, "cause", None) or error
                    send(failed=f"part {number}: {type(cause).__name__}: {' '.join(str(cause).split())[:200]}")
                    return
                if refused:
                    send(refused=refused)
                    return
        if not is_ended.is_set():
            send(finished=True)
    finally:
        ray.shutdown()  # ends the tasks that run


def _slots(nodes: list[dict[str, Any]], cpus: float, gpus: int) -> int:
    """How many parts the nodes run at a time."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    return sum(int(min(own.get("CPU", 0) / cpus, own.get("GPU", 0) / gpus if gpus else math.inf)) for own in alive)


if __name__ == "__main__":
    main()
