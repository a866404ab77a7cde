"""The object-scene model: encoder, slots and decoders."""
