"""Call models and judges behind OpenAI-compatible endpoints."""
