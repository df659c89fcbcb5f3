"""The network operator's side: network model, AC power flow, operating envelopes, and the service that publishes them."""
