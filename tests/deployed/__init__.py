"""What the tests of a deployed stack share: a receiver, what it got, and a trial under load."""
