"""Evaluate a model behind an OpenAI-compatible endpoint: vLLM, llama.cpp, a provider."""
