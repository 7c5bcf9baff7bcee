"""Streaming Qwen3-TTS in plain PyTorch. All but its adapter stands alone: torch, safetensors, tokenizers, numpy."""
