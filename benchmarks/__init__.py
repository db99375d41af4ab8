"""One script per question, printing JSON: `scripts/bench NAME`. Results are published in docs/benchmarks.md."""
