"""Live video: the newest frame wins, every result has an age, and no mask is shown on a frame it does not belong to."""
