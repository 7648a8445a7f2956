"""One thread for all: tests are small, and threads that wait for each other are slow on a busy machine."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported
