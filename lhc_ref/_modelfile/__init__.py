"""The parts of `lhc_ref.modelfile`, which alone is for others to import."""
