"""The mathematics: networks, critics, losses, fills."""
