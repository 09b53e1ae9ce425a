# %% [markdown]
# # Reading a sweep
# Run a sweep first, or use an existing one:
#
#     rankward -m depth=2,3 init=balanced init.determinant=positive 'seed=range(0,10)' \
#         hydra.sweep.dir=multirun_outputs/example
#
# Then run the cells in an editor that supports `# %%`, or the script: `python docs/reading_a_sweep.py FOLDER`.

# %%
import sys

import polars as pl

import rankward

folder = sys.argv[1] if len(sys.argv) > 1 else "multirun_outputs/example"
sweep = rankward.load(folder)

# %% One row per run: overrides, resolved keys, and the summary.
print(sweep.runs.select("depth.layers", "seed", "status", "iterations", "entry/0_0"))

# %% The last unobserved entry, by depth.
entry = pl.col("entry/0_0").abs()
print(sweep.runs.group_by("depth.layers").agg(entry.median().alias("median"), entry.min().alias("least")))

# %% One row per recorded iteration of all runs, read lazily: only these columns are read from disk.
traces = sweep.traces().select("run", "iteration", "loss", "rank/effective").collect()
print(traces.filter(pl.col("loss") < 1e-2).group_by("run").agg(pl.col("iteration").min()).sort("run"))

# %% Median and quartiles over seeds against the loss, independent of time.
print(sweep.curves("rank/effective", by=["depth.layers"], points=5))
sweep.plot("rank/effective", by=["depth.layers"]).figure.savefig(f"{folder}/effective_rank.png")
