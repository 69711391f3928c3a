"""Reduced precision: choosing calibration patches, quantizing, and keeping the layers precise that lesions need."""
