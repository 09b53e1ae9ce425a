"""Factorizations as a user would write them."""

import torch

from rankward.factorizations import MatrixFactorization


class Residual(MatrixFactorization):
    """W = (I + W_L) ... (I + W_1): its factors are square matrices, and their product is not W."""

    def product(self, factors):
        result = torch.eye(self.sizes[0], dtype=factors[0].dtype) + factors[0]
        for factor in factors[1:]:
            result = result + factor @ result
        return result


class Reversed(MatrixFactorization):
    """W = W_1 W_2 ... W_L, of square factors: the determinant is that of the other order, W is not."""

    def product(self, factors):
        result = factors[0]
        for factor in factors[1:]:
            result = result @ factor
        return result


def chain(sizes):
    """W_L ... W_1 with layer l of shape [d_l, d_(l-1)], for sizes d_0, ..., d_L."""
    return MatrixFactorization((sizes[-1], sizes[0]), len(sizes) - 1, list(sizes[1:-1]))
