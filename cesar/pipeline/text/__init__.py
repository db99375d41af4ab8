"""From decoded utterances to segments and words with times."""
