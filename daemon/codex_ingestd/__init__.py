"""The daemon: watches, schedules, and runs the library's engine until it is told to stop."""
