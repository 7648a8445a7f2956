"""What all tests run with."""

import os
import signal

# One thread for all: tests are small, and threads that wait for each other are slow on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported

# A shell that starts pytest in the background has it ignore SIGINT, and so would all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
