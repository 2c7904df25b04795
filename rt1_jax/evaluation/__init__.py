"""How good is a policy: closed-loop rollouts, offline errors, and a report to look at."""
