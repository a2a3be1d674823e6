"""What stands between the pooled feature and the identity loss."""

from __future__ import annotations

from torch import nn


class BNNeck(nn.BatchNorm1d):
    """Batch normalisation of a feature vector without a shift: the bias stays 0, [B, D] -> [B, D].

    Source: Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification"
    (CVPR Workshops 2019), BNNeck.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        self.bias.requires_grad_(False)


class IdentityClassifier(nn.Linear):
    """Linear identity logits without bias, [B, D] -> [B, num_identities].

    The weights start at a normal distribution of standard deviation 0.001 (the baseline above).
    """

    def __init__(self, in_features: int, num_identities: int) -> None:
        super().__init__(in_features, num_identities, bias=False)

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        nn.init.normal_(self.weight, std=0.001)
