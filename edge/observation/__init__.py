"""What one household's controller shows of itself over HTTP. It watches the records of the control cycle and changes nothing."""
