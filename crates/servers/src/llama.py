"""llama.cpp's own HTTP server, from the package xllamacpp, until somebody ends this process.

Arguments: the model's file, port, slots, tokens of context for each slot, threads.
"""

import signal
import sys

import xllamacpp

model, port, slots, context_tokens, threads = sys.argv[1], *map(int, sys.argv[2:6])
params = xllamacpp.CommonParams()
params.model.path = model
params.hostnames = ["127.0.0.1"]
params.port = port
params.n_parallel = slots
params.n_ctx = slots * context_tokens
params.n_batch = 512  # between two batches of a long prompt it answers whoever asks how it is
params.cpuparams.n_threads = threads
params.cpuparams_batch.n_threads = threads
params.endpoint_metrics = True
server = xllamacpp.Server(params)
while True:
    signal.pause()
