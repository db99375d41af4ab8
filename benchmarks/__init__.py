"""One script a question, printing JSON: `scripts/bench NAME`. Results are kept in docs/benchmarks.md."""
