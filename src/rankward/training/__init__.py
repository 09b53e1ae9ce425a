"""Training: the ensemble as a Lightning module, and one job from its config to its results."""

from rankward.environment import RANKS, hidden, import_matplotlib

import_matplotlib()  # before torchmetrics imports it
with hidden(*RANKS):
    import pytorch_lightning as _  # noqa: F401 - first, while the variables are hidden
    from lightning_utilities.core.rank_zero import rank_zero_only

rank_zero_only.rank = 0  # type: ignore[attr-defined]  # if Lightning was imported earlier
