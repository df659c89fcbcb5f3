"""Mechanism `p2p`: a community market by sharing ADMM, on top of a network whose losses are paid."""
