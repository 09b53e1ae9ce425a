"""Environment of `sbatch`: variables of the user are passed on, those of a surrounding allocation are hidden."""

from __future__ import annotations

import os
from collections.abc import Iterable

# Prefixes of variables that SLURM sets in a job, for the steps of the job.
ALLOCATION = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_MEM_BIND", "SBATCH_CPU_BIND")
USER = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT", "SLURM_DEBUG_FLAGS", "SLURM_TIME_FORMAT")
ALWAYS = (
    "array",
    "error",
    "open_mode",
    "output",
    "signal",
    "timeout_min",
    "wait",
)  # options of every launcher
# Variables that are not named like their option, by the launcher's key.
MEMORY = ("SBATCH_MEM_PER_CPU", "SBATCH_MEM_PER_GPU", "SBATCH_MEM_PER_NODE")  # only one of them may be set
NAMES = {
    "array": ("SBATCH_ARRAY_INX",),
    "name": ("SBATCH_JOB_NAME",),
    "time": ("SBATCH_TIMELIMIT",),
    "timeout_min": ("SBATCH_TIMELIMIT",),
    **dict.fromkeys(("mem", "mem_gb", "mem_per_cpu", "mem_per_gpu"), MEMORY),
}


def conflicting_variables(options: Iterable[str]) -> list[str]:
    """Variables that would override a job's options, to be hidden from `sbatch` and so from the job.

    Inside an allocation these are the variables of the allocation: `sbatch` passes them on, and `srun` in the job obeys
    them. Everywhere they are the `SBATCH_*` variables of options that the launcher sets, because they override the
    options of the job's script.

    Args:
        options: keys of the launcher and of its `additional_parameters` that are set.

    Example:
        >>> os.environ |= {"SBATCH_PARTITION": "debug", "SBATCH_ACCOUNT": "lab"}
        >>> conflicting_variables(["partition"])
        ['SBATCH_PARTITION']
        >>> del os.environ["SBATCH_PARTITION"], os.environ["SBATCH_ACCOUNT"]
    """
    keys = [option.replace("-", "_") for option in (*options, *ALWAYS)]
    overriding = {name for key in keys for name in NAMES.get(key, (f"SBATCH_{key.upper()}",))}
    inside = "SLURM_JOB_ID" in os.environ or "SLURM_JOBID" in os.environ
    allocation = [name for name in os.environ if inside and name.startswith(ALLOCATION) and name not in USER]
    return [*allocation, *(name for name in os.environ if name in overriding and name not in allocation)]
