"""The commands of `lhc-run`: one module each, and what they share (arguments, inputs, running, report)."""
