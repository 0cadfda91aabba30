"""From exported weights to a model file: readers, passes, quantizers, calibration."""
