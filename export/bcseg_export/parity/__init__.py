"""The parity gate: whether a candidate finds the lesions that its reference finds, frame by frame."""
