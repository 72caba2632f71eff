"""`python -m firmplan`: the command line."""

from firmplan.cli import main

main()
