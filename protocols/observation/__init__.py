"""What edge and coordinator show to whoever watches them over HTTP: figures for Prometheus and a verdict on their health."""
