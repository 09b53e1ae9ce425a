"""Tasks of a cluster leave the bytes of one machine."""

from pathlib import Path

from commands import rankward

SWEEP = ("-m", "seed=0,1,2,3", "max_iterations=2000", "logger=none")


def test_tasks_of_this_machine_leave_the_bytes_of_one_process(tmp_path: Path) -> None:
    there = rankward(*SWEEP, "hydra/launcher=submitit_local", "hydra.launcher.tasks=2", "hydra.launcher.poll=0.5",
                     "hydra.sweep.dir=there", cwd=tmp_path)  # fmt: skip
    here = rankward(*SWEEP, "hydra.sweep.dir=here", cwd=tmp_path)
    assert there.returncode == here.returncode == 0, there.stderr + here.stderr
    for run in range(4):
        for name in ("trace.parquet", "factors.safetensors"):
            one, other = (tmp_path / sweep / str(run) / name for sweep in ("there", "here"))
            assert one.read_bytes() == other.read_bytes()


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    both = rankward(*SWEEP, "hydra/launcher=submitit_local", "hydra.launcher.tasks=2", "hydra.launcher.runs_per_task=1",
                    "hydra.sweep.dir=there", cwd=tmp_path)  # fmt: skip
    assert both.returncode == 2 and "hydra.launcher.tasks: 2" in both.stderr.splitlines()[-1]
    assert not (tmp_path / "there").exists()
