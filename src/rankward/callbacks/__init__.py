"""Lightning callbacks that measure the weights, the features and the input-output map of any model."""

from rankward.callbacks.base import ScheduledMetrics
from rankward.callbacks.features import FeatureMetrics
from rankward.callbacks.maps import MapRank
from rankward.callbacks.weights import WeightMetrics

__all__ = ["FeatureMetrics", "MapRank", "ScheduledMetrics", "WeightMetrics"]
