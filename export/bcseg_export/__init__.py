"""From PyTorch to model files, each with proof that it says what PyTorch says."""
