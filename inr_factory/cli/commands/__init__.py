"""Commands: the verbs of the command line. What each takes, does and says; the work is done in the rooms."""
