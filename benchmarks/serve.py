"""Measure a server of an index under load: requests per second, their times, and the page's size and first answer.

    make demo && python benchmarks/serve.py demo/index --clients 32 --seconds 20

The script starts `regard serve` on a free port of 127.0.0.1. First one client asks alone, then all clients at once,
each with one request at a time. Answers of 429 (the queue is full) are counted apart, and any other failure ends the
script.
"""

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np

import regard.web
from regard.bench.machine import hardware

SENTENCES = (
    "a dog chases a man",
    "a man chases a dog",
    "a red car behind a tree",
    "a kite above a blue balloon",
    "a cat",
)


def ask(address: str, seconds: float, times: list[float], refused: list[float]) -> None:
    """Search again and again for some seconds, and append the milliseconds of each request."""
    with httpx.Client(base_url=address, timeout=60) as client:
        until = time.perf_counter() + seconds
        for number in range(10**9):
            began = time.perf_counter()
            if began > until:
                return
            body = {"queries": [{"sentence": SENTENCES[number % len(SENTENCES)]}], "k": 12}
            response = client.post("/v1/search", json=body)
            (refused if response.status_code == 429 else times).append(1000 * (time.perf_counter() - began))
            if response.status_code == 429:
                time.sleep(float(response.headers.get("Retry-After", 1)))
            else:
                response.raise_for_status()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    began = time.perf_counter()
    command = [sys.executable, "-m", "regard", "serve", str(options.index), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            lines = iter(server.stdout.readline, "")
            address = next(found[0] for line in lines if (found := re.search(r"http://[\d.:]+", line)))
            while True:
                try:
                    httpx.get(f"{address}/v1/health").raise_for_status()
                    break
                except httpx.TransportError:
                    time.sleep(0.05)
            started = time.perf_counter() - began
            first: list[float] = []
            while not first:
                ask(address, 0.01, first, [])
            print(f"{hardware('cpu')}, load {os.getloadavg()[0]:.1f}")
            files = list((Path(regard.web.__file__).parent / "page").iterdir())
            print(f"first answer {started + first[0] / 1000:.1f} s after the start (server up after {started:.1f} s)")
            print(f"page: {sum(path.stat().st_size for path in files) / 1000:.0f} kB in {len(files)} files")
            for clients in (1, options.clients):
                times: list[float] = []
                refused: list[float] = []
                work = (address, options.seconds, times, refused)
                threads = [threading.Thread(target=ask, args=work) for _ in range(clients)]
                began = time.perf_counter()
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                pace = len(times) / (time.perf_counter() - began)
                p50, p95 = np.percentile(times, [50, 95])
                told = f"p50 {p50:.0f} ms, p95 {p95:.0f} ms, {len(refused)} refused"
                print(f"{clients} clients: {pace:.1f} per second, {told}")
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
