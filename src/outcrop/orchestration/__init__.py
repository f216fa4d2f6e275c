"""Where a turn happens: decide the next step, write it down, perform it, conclude."""
