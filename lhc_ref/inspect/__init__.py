"""Looking inside: counts of a net, what a run or a model file learned, as tables, JSON and pictures."""
