"""What all tests of networks share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random pictures, features and weights in every run."""
    torch.manual_seed(0)
