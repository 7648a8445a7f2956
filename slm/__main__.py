"""Run the `slm` command as `python -m slm`."""

from slm.cli.main import main

main()
