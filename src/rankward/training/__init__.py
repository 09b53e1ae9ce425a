"""The ensemble under Lightning, and the way of one job from config to results."""
