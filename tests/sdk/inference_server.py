"""llama.cpp's own HTTP server on loopback, until standard input ends.

Usage: inference_server.py MODEL.gguf API_KEY
Prints `listening http://...` once it can be called.
"""
import sys

import xllamacpp

from processes import free_port

model, api_key = sys.argv[1:]
parameters = xllamacpp.CommonParams()
parameters.model.path = model
parameters.port = free_port()
parameters.api_keys = [api_key]
parameters.n_ctx = 2048
parameters.n_parallel = 4
server = xllamacpp.Server(parameters)
print("listening", server.listening_address, flush=True)
sys.stdin.read()
