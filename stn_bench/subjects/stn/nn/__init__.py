"""All that knows Keras: layers, blocks, build, train.

From the layer outwards: `sampler` (grid and samplers, pure functions), `transformer` (the layer), `blocks` (trunk and
heads), `build` (configuration to model), then what is done with a model: `cost` and `rectify`.
"""
