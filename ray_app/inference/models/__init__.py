"""The models that score: ONNX Runtime, the versions a replica holds, and the way to them."""
