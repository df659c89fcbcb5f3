"""What the coordinator shows of itself and of its feeder over HTTP. It watches the turns of the loop and changes nothing."""
