"""Files and runtimes: packed safetensors, ONNX."""
