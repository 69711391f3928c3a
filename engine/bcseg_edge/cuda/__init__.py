"""The frame path on an NVIDIA GPU. Every module imports without a GPU, a driver or `cuda.bindings`."""
