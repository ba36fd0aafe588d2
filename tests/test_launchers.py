import pytest

from regard.launchers import Job, UnclearJob, first_host, job

TORCHRUN = {"RANK": "1", "LOCAL_RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "head", "MASTER_PORT": "1234"}
OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4"}
SRUN = {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NODELIST": "gpu[03-04]",
    "SLURM_JOB_ID": "123456",
}
PMI = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Job()),
        (TORCHRUN, Job("torchrun", 1, 0, 4, "head", 1234)),
        (TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "2"}, Job("torchrun", 1, 0, 4, "head", 1234, 2)),
        (TORCHRUN | SRUN, Job("torchrun", 1, 0, 4, "head", 1234)),  # torchrun started by srun
        ({"RANK": "0", "WORLD_SIZE": "1"}, Job()),
        ({"MASTER_ADDR": "head"}, Job()),
        (OPEN_MPI | {"MASTER_ADDR": "head"}, Job("Open MPI", 3, 1, 4, "head", 29500)),
        (OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, Job("Open MPI", 3, 1, 4, "127.0.0.1", 29500)),
        (SRUN, Job("srun", 5, 1, 8, "gpu03", 20_000 + 123_456 % 20_000)),
        (SRUN | {"MASTER_ADDR": "head", "MASTER_PORT": "7"}, Job("srun", 5, 1, 8, "head", 7)),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, Job()),  # a batch script that runs the command without srun
        (PMI, Job("MPI", 1, 1, 2, "127.0.0.1", 29500)),
    ],
)
def test_every_launcher_is_recognised(environment, expected):
    assert job(environment) == expected


@pytest.mark.parametrize("environment", [TORCHRUN, OPEN_MPI, SRUN, PMI])
def test_a_part_of_an_environment_is_refused(environment):
    for absent in [name for name in environment if name.endswith(("RANK", "RANKID", "PROCID", "MASTER_ADDR"))]:
        rest = {name: value for name, value in environment.items() if name != absent}
        with pytest.raises(UnclearJob, match=rf"describes a job in part: .*, but no {absent}\. Start all processes"):
            job(rest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RANK": "4"}, "RANK=4 and WORLD_SIZE=4: expected a rank below the number of processes"),
        ({"RANK": "-1"}, "RANK='-1': expected a whole number"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT='http': expected a whole number"),
    ],
)
def test_numbers_out_of_range_are_refused(change, message):
    with pytest.raises(UnclearJob, match=message):
        job(TORCHRUN | change)


def test_mpi_on_several_machines_needs_an_address():
    with pytest.raises(UnclearJob, match="Open MPI started this process, but MASTER_ADDR is not set"):
        job(OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"})


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("a", "a"), ("a,b", "a"), ("n[007-012,020]", "n007"), ("n[3],m1", "n3"), ("n[1-2]-ib,m", "n1-ib"), ("", "")],
)
def test_the_first_machine_of_slurm(nodes, first):
    assert first_host(nodes) == first
