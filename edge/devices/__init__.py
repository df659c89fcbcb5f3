"""The devices of one household: transports, SunSpec models, register-map profiles and the discipline of writing to them."""
