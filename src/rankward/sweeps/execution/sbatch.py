"""The environment in which a sweep is submitted to SLURM: a user's variables count, an allocation's do not."""

from __future__ import annotations

import os
from collections.abc import Iterable

OF_ALLOCATION = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_MEM_BIND", "SBATCH_CPU_BIND")  # a job finds them, for its steps
OF_USER = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT", "SLURM_DEBUG_FLAGS", "SLURM_TIME_FORMAT")
ALWAYS = ("array", "error", "open_mode", "output", "signal", "timeout_min", "wait")  # options that a launcher sets
# Options whose variable has another name than theirs, by the launcher's key.
MEMORY = ("SBATCH_MEM_PER_CPU", "SBATCH_MEM_PER_GPU", "SBATCH_MEM_PER_NODE")  # exclude each other
NAMES = {
    "array": ("SBATCH_ARRAY_INX",),
    "name": ("SBATCH_JOB_NAME",),
    "time": ("SBATCH_TIMELIMIT",),
    "timeout_min": ("SBATCH_TIMELIMIT",),
    **dict.fromkeys(("mem", "mem_gb", "mem_per_cpu", "mem_per_gpu"), MEMORY),
}


def misleading(options: Iterable[str]) -> list[str]:
    """Variables that would change a job beside its options, to be hidden from `sbatch` and so from the job.

    Inside an allocation those are the allocation's own, which `sbatch` hands on and the job's `srun` obeys. Anywhere it
    is a `SBATCH_*` variable of an option that the launcher's settings have, since it would win over them; others stay.

    Args:
        options: keys of the launcher that are set, and of its `additional_parameters`.

    Example:
        >>> os.environ |= {"SBATCH_PARTITION": "debug", "SBATCH_ACCOUNT": "lab"}
        >>> misleading(["partition"])
        ['SBATCH_PARTITION']
        >>> del os.environ["SBATCH_PARTITION"], os.environ["SBATCH_ACCOUNT"]
    """
    keys = [option.replace("-", "_") for option in (*options, *ALWAYS)]
    set_here = {name for key in keys for name in NAMES.get(key, (f"SBATCH_{key.upper()}",))}
    inside = "SLURM_JOB_ID" in os.environ or "SLURM_JOBID" in os.environ
    left = [name for name in os.environ if inside and name.startswith(OF_ALLOCATION) and name not in OF_USER]
    return [*left, *(name for name in os.environ if name in set_here and name not in left)]
