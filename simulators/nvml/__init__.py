"""A libnvidia-ml.so.1 in C over a mapped file: the real NVML binding and its error paths, without a GPU."""
