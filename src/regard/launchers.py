"""The place of this process in a job of several, as the launcher wrote it to the environment.

Known are torchrun and Ray Train (RANK), Open MPI, SLURM's srun, and MPICH and Intel MPI (PMI_RANK).
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from regard.files import InputError

PORT = 29500  # torch's default, if nothing else is known
SLURM_PORTS = range(20_000, 40_000)  # by the number of the job, so that two jobs on one machine do not meet


@dataclass(frozen=True)
class Job:
    """This process has `rank` of `world` processes, and `local_rank` among those on its machine.

    The first process listens at `address`:`port`. Alone, a process is rank 0 of 1.
    """

    launcher: str = ""
    rank: int = 0
    local_rank: int = 0
    world: int = 1
    address: str = ""
    port: int = 0
    restarts: int = 0  # how often the launcher has started the job again after a failure


class UnclearJob(InputError):
    """The environment describes a job in part."""

    is_shared = True


def job(environment: Mapping[str, str] = os.environ) -> Job:
    """Return the place of this process in its job. Raises UnclearJob if the environment describes one in part."""
    for launcher, names, size in _LAUNCHERS:
        if size in environment or (launcher == "torchrun" and "RANK" in environment):
            return _read(launcher, names, size, environment)
    return Job()


def is_first(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process is the first of its job, as far as the environment says; it alone prints."""
    ranks = [environment[names[0]] for _, names, _ in _LAUNCHERS if names[0] in environment]
    return not ranks or ranks[0] == "0"


# Of each launcher, the variables with the rank, the local rank, and the number of processes. SLURM writes
# SLURM_STEP_NUM_TASKS for what srun starts; in the batch script itself, one process runs whatever was allocated.
_LAUNCHERS = (
    ("torchrun", ("RANK", "LOCAL_RANK"), "WORLD_SIZE"),
    ("Open MPI", ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"), "OMPI_COMM_WORLD_SIZE"),
    ("srun", ("SLURM_PROCID", "SLURM_LOCALID"), "SLURM_STEP_NUM_TASKS"),
    ("MPI", ("PMI_RANK", "MPI_LOCALRANKID"), "PMI_SIZE"),
)


def _read(launcher: str, names: tuple[str, str], size: str, environment: Mapping[str, str]) -> Job:
    if environment.get(size) == "1":
        return Job()
    needed = [*names, size, *(("MASTER_ADDR", "MASTER_PORT") if launcher == "torchrun" else ())]
    absent = [name for name in needed if name not in environment]
    if absent:
        present = ", ".join(f"{name}={environment[name]}" for name in needed if name in environment)
        raise UnclearJob(
            f"The environment describes a job in part: {present}, but no {' and '.join(absent)}. Start all processes "
            "with torchrun, srun or mpirun, or unset these variables."
        )
    rank, local_rank, world = (_number(name, environment) for name in (*names, size))
    if rank >= world:
        raise UnclearJob(f"{names[0]}={rank} and {size}={world}: expected a rank below the number of processes.")
    address, port = _meeting_place(launcher, environment)
    restarts = _number("TORCHELASTIC_RESTART_COUNT", environment) if "TORCHELASTIC_RESTART_COUNT" in environment else 0
    return Job(launcher, rank, local_rank, world, address, port, restarts)


def _meeting_place(launcher: str, environment: Mapping[str, str]) -> tuple[str, int]:
    """Address and port of the first process. Raises UnclearJob if they cannot be known."""
    address, port = environment.get("MASTER_ADDR", ""), PORT
    if launcher == "srun":
        address = address or first_host(environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_NODELIST", "")))
        number = environment.get("SLURM_JOB_ID", "")
        port = SLURM_PORTS[int(number) % len(SLURM_PORTS)] if number.isdecimal() else PORT
    elif not address and _is_one_machine(launcher, environment):
        address = "127.0.0.1"
    if not address:
        raise UnclearJob(
            f"{launcher} started this process, but MASTER_ADDR is not set: set it to the name of the machine of the "
            "first process (mpirun -x MASTER_ADDR)."
        )
    return address, _number("MASTER_PORT", environment) if "MASTER_PORT" in environment else port


def _is_one_machine(launcher: str, environment: Mapping[str, str]) -> bool:
    local, whole = {
        "Open MPI": ("OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_SIZE"),
        "MPI": ("MPI_LOCALNRANKS", "PMI_SIZE"),
    }[launcher]
    return environment.get(local) == environment[whole]


def first_host(nodes: str) -> str:
    """Return the first machine of a list as SLURM writes it: node-a of node-a,node-b; n007 of n[007-012,020]."""
    found = re.match(r"([^\[,]+)(?:\[(\w+)[^\]]*\]([^,]*))?", nodes)
    return "".join(part or "" for part in found.groups()) if found else ""


def _number(name: str, environment: Mapping[str, str]) -> int:
    text = environment[name]
    if not text.isdecimal():
        raise UnclearJob(f"{name}={text!r}: expected a whole number.")
    return int(text)
