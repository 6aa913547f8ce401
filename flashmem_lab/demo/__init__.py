"""The demo: reads the words of a picture with two models streamed under a budget."""
