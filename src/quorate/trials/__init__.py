"""Real faults on real processes, judged by the simulator's checkers. `python -m quorate.trials --help` says how."""
