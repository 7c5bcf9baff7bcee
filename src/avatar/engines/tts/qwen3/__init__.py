"""Streaming Qwen3-TTS in plain PyTorch: torch, safetensors, tokenizers, numpy.

All but its adapter stands alone, beside what reads tensors (`checkpoints`, `weights`).
"""
