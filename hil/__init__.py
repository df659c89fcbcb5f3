"""The hardware-in-the-loop bench: simulated devices on real sockets and a power-flow plant around the deployed code."""
