"""Defaults of training and pre-training that the command line also shows. Loads nothing.

EPOCHS, BATCH_SIZE and LEARNING_RATE are those of models without a rate in COSINE_RATES; run_config.default_schedule has
the rule of the others.
"""

DEFAULT_MODEL = "parity"
FORMER_MODEL = "dws"  # until rules 3, see run_config
EPOCHS = 100
BATCH_SIZE = 128
LEARNING_RATE = 1e-3
COSINE_RATES = {"parity": 5e-3, "probes": 2e-3, "render": 2e-3}
COSINE_EPOCHS = 20, 100  # at least and, to reach COSINE_STEPS, at most
COSINE_STEPS = 600, 20_000
COSINE_BATCH_SIZE = 64
MIXED_EPOCHS = 3  # times as many with MixUp
WEIGHT_DECAY = 5e-4
WARMUP_STEPS = 100

PRETRAIN_MODEL = "dws"
PRETRAIN_EPOCHS = 50
PROJECTION_DIM = 64
TEMPERATURE = 0.2
NEIGHBOURS = 20

EDIT_MODEL = "parity:points=true"
EDIT_EPOCHS = 30
EDIT_BATCH_SIZE = 64
EDIT_LEARNING_RATE = 5e-3
