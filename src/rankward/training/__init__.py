"""The ensemble under Lightning, and the way of one job from config to results."""

from rankward.environment import RANKS, hidden, import_matplotlib

import_matplotlib()  # as torchmetrics does
with hidden(*RANKS):
    import pytorch_lightning as _  # noqa: F401 - before any module that imports it
    from lightning_utilities.core.rank_zero import rank_zero_only

rank_zero_only.rank = 0  # type: ignore[attr-defined]  # also where somebody has imported Lightning before
