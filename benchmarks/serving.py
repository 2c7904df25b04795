"""What the policy server costs: latency of one robot, throughput of many, beside the bare policy.

    python benchmarks/serving.py [--checkpoint=tabletop-small,rt1] [--connections=32] [--json=FILE]

`rt1` is the full RT-1 (35,120,544 parameters) with random weights. For each checkpoint a server
runs in a process of its own, the robots in a second one (a single event loop, one message in flight
a connection), and the bare `policy.step` in this one. The three take turns in short rounds, so that
other work on the machine meets all of them alike. Latency is measured by the robot, its packing and
unpacking included; many robots send messages that were packed before.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

ROUNDS = 6
ROOT = pathlib.Path(__file__).resolve().parent.parent


class Server:
    """A server process of the checkpoint, ready to serve."""

    def __init__(self, checkpoint: str, flags: list[str]) -> None:
        command = [sys.executable, "-m", "rt1_jax.serving.server", f"--checkpoint={checkpoint}"]
        started = time.time()
        self.process = subprocess.Popen(
            [*command, "--port=0", *flags], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("listening"):
            raise SystemExit(f"error: the server did not start ({line.strip()})")
        self.port = int(line.split(",")[0].rsplit(":", 1)[1])
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit("error: the server did not get ready")
        self.seconds_to_ready = time.time() - started

    def memory(self) -> dict[str, float]:
        """Resident memory in MB (10^6 bytes): now, and at its highest."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        lines = dict(line.split(":", 1) for line in status.splitlines())
        kib = {name: int(lines[name].split()[0]) for name in ("VmRSS", "VmHWM")}
        return {"now": kib["VmRSS"] * 1.024e-3, "peak": kib["VmHWM"] * 1.024e-3}

    def has_tensorflow(self) -> bool:
        return "tensorflow" in pathlib.Path(f"/proc/{self.process.pid}/maps").read_text()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(30)


class Robots:
    """The process that drives connections; `run` has all of them step for some seconds."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, f"--robots={port}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def run(self, connections: int, seconds: float, steps: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([connections, seconds, steps]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def drive(port: int) -> None:
    """The robots' process: a command a line on stdin, the times of its steps on stdout."""
    assert "jax" not in sys.modules
    connected: list[Any] = []

    async def answer(line: str) -> str:
        from websockets.asyncio.client import connect

        from rt1_jax.serving import protocol

        connections, seconds, steps = json.loads(line)
        while len(connected) < connections:
            robot = await connect(
                f"ws://127.0.0.1:{port}", compression=None, max_size=None, proxy=None
            )
            connected.append((robot, protocol.unpack(await robot.recv())))
        metadata = connected[0][1]
        rng = np.random.default_rng(0)
        shape = (metadata["image"]["height"], metadata["image"]["width"], 3)
        observations = [
            {
                "image": rng.integers(0, 255, shape, np.uint8),
                "embedding": rng.normal(size=metadata["encoder"]["dimensions"]).astype("f4") * 0.05,
            }
            for _ in range(connections)
        ]
        packed = [protocol.pack(observation) for observation in observations]
        latencies: list[float] = []
        batches: list[int] = []
        end = time.perf_counter() + seconds

        async def step(i: int) -> None:
            while time.perf_counter() < end and len(latencies) < steps:
                start = time.perf_counter()
                message = protocol.pack(observations[i]) if connections == 1 else packed[i]
                await connected[i][0].send(message)
                reply = await connected[i][0].recv()
                if isinstance(reply, str):
                    raise SystemExit(f"error: the server refused: {reply}")
                timing = protocol.unpack(reply)["server_timing"]
                latencies.append(time.perf_counter() - start)
                batches.append(timing["batch_size"])

        start = time.perf_counter()
        await asyncio.gather(*(step(i) for i in range(connections)))
        elapsed = time.perf_counter() - start
        return json.dumps({"seconds": elapsed, "latencies": latencies, "batches": batches})

    async def main() -> None:
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            print(await answer(line), flush=True)

    asyncio.run(main())


def measure(name: str, checkpoint: str, flags: argparse.Namespace) -> dict[str, Any]:
    """All numbers of one checkpoint."""
    server = Server(checkpoint, [f"--max-batch={flags.max_batch}"] if flags.max_batch else [])
    robots = Robots(server.port)
    import rt1_jax

    policy = rt1_jax.load_policy(checkpoint)
    sizes = sorted({1, 8, flags.connections})
    step_seconds = {size: bare(policy, size, seconds=0.0) for size in sizes}  # compiles
    robots.run(1, 60, 3)
    robots.run(flags.connections, 60, 2 * flags.connections)
    times: dict[int, list[float]] = {size: [] for size in sizes}
    one: list[float] = []
    many: list[dict[str, Any]] = []
    ratios = []
    for _ in range(ROUNDS):
        one += robots.run(1, flags.seconds, 10**6)["latencies"]
        for size in sizes:
            step_seconds[size] = bare(policy, size, flags.seconds)
            times[size] += step_seconds[size]
        many.append(robots.run(flags.connections, 2 * flags.seconds, 10**6))
        served = len(many[-1]["latencies"]) / many[-1]["seconds"]
        ratios.append(served * np.mean(step_seconds[flags.connections]) / flags.connections)
    latencies = [x for run in many for x in run["latencies"]]
    batches = [x for run in many for x in run["batches"]]
    result = {
        "checkpoint": name,
        "bare, 1": milliseconds(times[1]),
        "server, 1": milliseconds(one),
        "overhead ms (of medians)": 1e3 * float(np.median(one) - np.median(times[1])),
        "bare steps/s": {size: size / float(np.mean(times[size])) for size in sizes},
        f"server, {flags.connections}": milliseconds(latencies),
        "server steps/s": len(latencies) / sum(run["seconds"] for run in many),
        "ratio": float(np.median(ratios)),
        "ratios": ratios,
        "mean batch": len(batches) / sum(1 / b for b in batches),
        "memory MB": server.memory(),
        "seconds to ready": server.seconds_to_ready,
        "tensorflow": server.has_tensorflow(),
    }
    robots.stop()
    result["exit status"] = server.stop()
    return result


def bare(policy: Any, size: int, seconds: float) -> list[float]:
    """Seconds of each `policy.step` of a batch, actions as NumPy arrays; at least two steps."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (size, *policy.description.image_size, 3), np.uint8)
    embeddings = rng.normal(size=(size, policy.description.encoder.dimensions)).astype("f4") * 0.05
    state, times, end = policy.initial_state(size), [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 2:
        start = time.perf_counter()
        state, action = policy.step(state, images, embeddings)
        action = {field: np.asarray(value) for field, value in action.items()}
        times.append(time.perf_counter() - start)
    return times


def milliseconds(times: list[float]) -> dict[str, float]:
    """Median and tail of a list of seconds."""
    median, p95, p99 = (1e3 * float(x) for x in np.percentile(times, [50, 95, 99]))
    return {"median": median, "p95": p95, "p99": p99, "steps": len(times)}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="tabletop-small,rt1", help="comma-separated")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a measurement in a round")
    parser.add_argument("--max-batch", type=int, help="of the server; its default if left out")
    parser.add_argument("--json", type=pathlib.Path, help="write the numbers here")
    parser.add_argument("--robots", type=int, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.robots:
        drive(flags.robots)
        return
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in flags.checkpoint.split(","):
            checkpoint = name
            if name == "rt1":
                from first_action import write_checkpoint

                checkpoint = f"{folder}/rt1"
                write_checkpoint(pathlib.Path(checkpoint))
            load = os.getloadavg()[0]
            results.append({**measure(name, checkpoint, flags), "load before": load})
            show(results[-1], flags.connections)
    if flags.json:
        flags.json.write_text(json.dumps(results, indent=1))


def show(result: dict[str, Any], connections: int) -> None:
    """Prints one checkpoint's rows."""
    print(f"\n{result['checkpoint']} (load {result['load before']:.1f} before)\n")
    print("| ms a step | median | p95 | p99 | steps |\n| --- | --- | --- | --- | --- |")
    for row in ("bare, 1", "server, 1", f"server, {connections}"):
        numbers = result[row]
        cells = " | ".join(f"{numbers[x]:.2f}" for x in ("median", "p95", "p99"))
        print(f"| {row} | {cells} | {numbers['steps']} |")
    print(f"\noverhead at batch 1: {result['overhead ms (of medians)']:.2f} ms")
    bare_rates = ", ".join(f"{r:.1f} at {size}" for size, r in result["bare steps/s"].items())
    print(f"bare policy: {bare_rates} steps/s by batch size")
    print(
        f"server, {connections} connections: {result['server steps/s']:.1f} steps/s, "
        f"{result['ratio']:.2f} of the bare batch of {connections} "
        f"(rounds {', '.join(f'{r:.2f}' for r in result['ratios'])}); "
        f"mean batch {result['mean batch']:.1f}"
    )
    memory = result["memory MB"]
    print(
        f"server process: {memory['now']:.0f} MB resident, {memory['peak']:.0f} MB at its highest; "
        f"ready after {result['seconds to ready']:.1f} s; "
        f"TensorFlow loaded: {'yes' if result['tensorflow'] else 'no'}; "
        f"exit status {result['exit status']}",
        flush=True,
    )


if __name__ == "__main__":
    main()
