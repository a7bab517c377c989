"""Defaults of training and pre-training that the command line also shows. Loads nothing."""

DEFAULT_MODEL = "dws"
EPOCHS = 100
BATCH_SIZE = 128
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 5e-4
WARMUP_STEPS = 100

PRETRAIN_EPOCHS = 50
PROJECTION_DIM = 64
TEMPERATURE = 0.2
NEIGHBOURS = 20
