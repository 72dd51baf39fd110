"""Check somebody else's LHC layer: its outputs, masks and gradients against the reference, case by case.

    lhc-ref check my_package.layers:LhcConv2d --framework torch

From the user's call to the verdict: protocol (what a target is) -> adapters (how frameworks' layers become one) ->
process (the target, in a child process) -> cases -> reference (float64 answers, with budgets) -> compare -> runner ->
shrink and diagnosis (of what failed) -> report.
"""
