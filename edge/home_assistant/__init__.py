"""The household in Home Assistant: MQTT device discovery on the household's own broker. It shows and takes no command."""
