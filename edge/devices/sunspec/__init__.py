"""SunSpec information models: layouts, codec, discovery and the roles that a device can play."""
