"""Each paper's equations for one pair, in plain loops and float64: what the models, in float64 too, must equal.

One module a model, named as in MODELS: `VARIANTS`, its configurations to test (the default, then one option away from
it each), and `score(model, image, text)`. An oracle shares no code with its model but the weights.
"""
