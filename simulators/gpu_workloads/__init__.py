"""GPU workloads as resident processes: a miner with xmrig's HTTP API and an inference server with vLLM's.

Both do real work on the CPU, so that a switch between them is measured on work that has to stop and to go on.
"""
