"""LangChain and LlamaIndex as their own documentation sets them up, for `python -m benchmarks.run peers`."""
