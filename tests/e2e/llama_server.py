"""llama.cpp's own HTTP server as a real upstream: prints its address, serves until its standard input ends."""

import sys

import xllamacpp

settings = xllamacpp.CommonParams()
settings.model.path = sys.argv[1]
settings.port = 0
settings.n_parallel = 2
settings.n_ctx = 4096
settings.cpuparams.n_threads = 1  # more would spin against each other on a busy machine
settings.warmup = False
server = xllamacpp.Server(settings)
print(server.listening_address, flush=True)
sys.stdin.read()
