"""The simulator: whole clusters of production nodes on virtual time, and the checkers of what they did."""
