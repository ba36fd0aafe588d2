"""Each paper's equations for one pair, in plain loops and float64: what the models must equal to 1e-5.

One module a model, named as in MODELS: `VARIANTS`, its configurations to test (the default, then one option away from
it each), and `score(model, image, text)`. An oracle shares no code with its model but the weights.
"""
