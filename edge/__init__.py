"""The edge: one household's controller. It reads the devices, plans the day and keeps the connection point inside its envelope."""
