"""Oracles: each paper's equations for one pair, in plain loops and float64. In float64, models must equal them.

There is one module per model, named as in MODELS. It contains `VARIANTS`, the configurations to test (the default, then
mostly one option changed at a time), and `score(model, image, text)`. An oracle shares only the weights with its model.
"""
