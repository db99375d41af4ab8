"""Whisper on CTranslate2: one encoder pass per window, batched decoding, word times from cross-attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import ctranslate2
import numpy as np

from cesar.engines.base import DecodeSettings, EncodedWindow, Hypothesis, TimedWord, Utterance, Window
from cesar.engines.hardware import Plan
from cesar.engines.onnx.decoder import Decoder
from cesar.engines.onnx.greedy import DecodedTokens, GreedyDecoder
from cesar.engines.timestamp_rules import TimestampRules
from cesar.engines.whisper.alignment import WordAligner
from cesar.engines.whisper.sampling import Draft, Logits, logprob, sample
from cesar.engines.whisper.tokenizer import CONTEXT_TOKENS, Vocabulary
from cesar.errors import DeviceUnavailable, ModelError
from cesar.transcript import ModelIdentity

_ENCODED_FRAMES_PER_SECOND = 50
_MIN_UTTERANCE_TOKENS = 5
"""The mean log-probability of a shorter utterance is not reliable."""
_PROMPT_TOKENS = CONTEXT_TOKENS // 2 - 1


class WhisperEngine:
    """The `Engine` for Whisper models in CTranslate2's format.

    Raises `ModelError` if the folder can't be loaded, `DeviceUnavailable` if the device or compute type is not
    available.
    """

    def __init__(self, directory: Path, identity: ModelIdentity, plan: Plan) -> None:
        loading = ThreadPoolExecutor(2)  # each takes as long as loading the vocabulary
        model = loading.submit(_model, directory, plan)
        self._decoder = loading.submit(_decoder, directory, plan)  # awaited only when there is a window to decode
        loading.shutdown(wait=False)
        self._tokens = Vocabulary(directory)
        self._model = model.result()
        self._aligner = WordAligner(self._model, self._tokens)
        self.identity = identity
        self.n_mels = int(self._model.n_mels)
        self._rules = TimestampRules(self._tokens.eot, self._tokens.timestamp_begin)
        self.languages = self._tokens.languages if self._model.is_multilingual else frozenset({"en"})

    @cached_property
    def _greedy(self) -> GreedyDecoder | None:
        decoder = self._decoder.result()
        suppress_tokens, start_of_text = self._tokens.suppress_tokens, self._tokens.sot
        codes = self.languages if self._model.is_multilingual else ()
        languages = {code: self._tokens.id(f"<|{code}|>") for code in sorted(codes)}
        if decoder is None:
            return None
        return GreedyDecoder(
            decoder, self._rules, suppress_tokens=suppress_tokens, start_of_text=start_of_text, languages=languages
        )

    def encode(self, window: Window) -> EncodedWindow:
        features = ctranslate2.StorageView.from_array(np.ascontiguousarray(window.log_mel[np.newaxis]))
        encoding = self._model.encode(features, to_cpu=True)  # batches are assembled there
        return EncodedWindow(replace(window, log_mel=window.log_mel[:, :0].copy()), encoding)  # many wait for a batch

    def language_probabilities(
        self, encoded: EncodedWindow, part: tuple[float, float] | None = None
    ) -> Mapping[str, float]:
        encoding = encoded.encoding
        if part is not None:
            start, end = (round(time * _ENCODED_FRAMES_PER_SECOND) for time in part)
            frames = np.asarray(encoding)[:, start : max(end, start + 1)]
            encoding = ctranslate2.StorageView.from_array(np.ascontiguousarray(frames))
        found = self._model.detect_language(encoding)[0]
        return {token[2:-2]: float(probability) for token, probability in found}

    def decode(self, batch: Sequence[EncodedWindow], settings: DecodeSettings) -> list[Hypothesis]:
        if settings.temperature > 0:
            return [self._sample(encoded, settings) for encoded in batch]
        if settings.beam_size == 1 and not settings.avoid_repetition and self._greedy:
            encodings = [np.asarray(encoded.encoding) for encoded in batch]
            texts = self._greedy.search(encodings, self._prompt(settings), self._max_new_tokens(settings))
        else:
            texts = self._search(batch, settings)
        return [self._hypothesis(encoded, text, settings) for encoded, text in zip(batch, texts, strict=True)]

    def _search(self, batch: Sequence[EncodedWindow], settings: DecodeSettings) -> list[DecodedTokens]:
        prompt = self._prompt(settings)
        results = self._model.generate(
            _stack(batch),
            [prompt] * len(batch),
            beam_size=settings.beam_size,
            max_length=self._max_length(prompt, self._max_new_tokens(settings)),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=self._tokens.suppress_tokens,
            repetition_penalty=1.2 if settings.avoid_repetition else 1.0,
            no_repeat_ngram_size=5 if settings.avoid_repetition else 0,
        )
        return [
            DecodedTokens(
                float(result.no_speech_prob), float(result.scores[0]) * len(tokens), tokens
            )  # a score is per token
            for result in results
            for tokens in result.sequences_ids[:1]
        ]

    def align(
        self, encoded: EncodedWindow, utterances: Sequence[Utterance], settings: DecodeSettings
    ) -> list[list[TimedWord]]:
        return self._aligner.align(encoded, utterances, self._start_sequence(settings), settings.text_language)

    def _start_sequence(self, settings: DecodeSettings) -> list[int]:
        sequence = [self._tokens.sot]
        if self._model.is_multilingual:
            sequence += [self._tokens.id(f"<|{settings.language}|>"), self._tokens.id(f"<|{settings.task}|>")]
        return sequence

    def _prompt(self, settings: DecodeSettings) -> list[int]:
        before = " ".join(part.strip() for part in (settings.hotwords, settings.prompt) if part and part.strip())
        if not before:
            return self._start_sequence(settings)
        return [
            self._tokens.sot_prev,
            *self._tokens.encode(" " + before)[-_PROMPT_TOKENS:],
            *self._start_sequence(settings),
        ]

    def _max_new_tokens(self, settings: DecodeSettings) -> int:
        """Return the maximum number of tokens before the end token."""
        max_new_tokens = min(CONTEXT_TOKENS // 2, CONTEXT_TOKENS - len(self._prompt(settings))) - 1
        return max_new_tokens if settings.max_tokens is None else min(max_new_tokens, settings.max_tokens)

    @staticmethod
    def _max_length(prompt: Sequence[int], most: int) -> int:
        """Return the CTranslate2 setting for this many tokens: it writes half of it, including the prompt."""
        return min(CONTEXT_TOKENS, max(2 * most, most + len(prompt)))

    def _hypothesis(self, encoded: EncodedWindow, text: DecodedTokens, settings: DecodeSettings) -> Hypothesis:
        count = len(text.tokens)
        logprobs = self._logprobs(encoded, text.tokens, settings) if settings.token_logprobs else ()
        return Hypothesis(
            utterances=tuple(self._tokens.utterances(text.tokens, encoded.window.duration, logprobs)),
            avg_logprob=text.logprob / (count + 1),  # including the end token
            no_speech_prob=text.no_speech_prob,
            token_count=count,
            is_cut_off=count >= self._max_new_tokens(settings),
            min_utterance_logprob=self._min_utterance_logprob(encoded, text),
            languages={} if settings.prompt or settings.hotwords else text.languages,  # prompts bias it
        )

    def _min_utterance_logprob(self, encoded: EncodedWindow, text: DecodedTokens) -> float | None:
        """Return the mean log-probability of the least likely utterance that isn't too short."""
        if not text.logprobs:
            return None
        told = self._tokens.utterances(text.tokens, encoded.window.duration, text.logprobs[: len(text.tokens)])
        by_utterance = [utterance.token_logprobs for utterance in told]
        means = [sum(own) / len(own) for own in by_utterance if len(own) >= _MIN_UTTERANCE_TOKENS]
        return min(means, default=None)

    def _sample(self, encoded: EncodedWindow, settings: DecodeSettings) -> Hypothesis:
        """Sample the text with a seed derived from the window alone, for reproducible results."""
        window = encoded.window
        rng = np.random.default_rng([round(window.start * 16_000), round(window.duration * 16_000)])
        drawn = sample(
            lambda tokens, most: self._draft(encoded, tokens, most, settings),
            self._rules,
            rng,
            temperature=settings.temperature,
            max_new_tokens=self._max_new_tokens(settings),
        )
        tokens = () if drawn.is_degenerate else drawn.tokens
        logprobs = self._logprobs(encoded, tokens, settings) if settings.token_logprobs else ()
        return Hypothesis(
            utterances=tuple(self._tokens.utterances(tokens, window.duration, logprobs)),
            avg_logprob=sum(drawn.logprobs) / (len(drawn.tokens) + 1),
            no_speech_prob=drawn.no_speech_prob,
            token_count=len(drawn.tokens),
            is_cut_off=len(drawn.tokens) >= self._max_new_tokens(settings),
            temperature=settings.temperature,
        )

    def _logprobs(self, encoded: EncodedWindow, tokens: Sequence[int], settings: DecodeSettings) -> list[float]:
        """Return the log-probability of each token under teacher forcing."""
        logits = self._draft(encoded, tokens, len(tokens), settings).logits if tokens else ()
        return [logprob(own, token) for own, token in zip(logits, tokens, strict=False)]

    def _draft(self, encoded: EncodedWindow, tokens: Sequence[int], most: int, settings: DecodeSettings) -> Draft:
        """Return the model's greedy continuation of the tokens, up to `most` tokens in total."""
        prompt = self._prompt(settings)
        (result,) = self._model.generate(
            encoded.encoding,
            [[*prompt, *tokens]],
            beam_size=1,
            max_length=self._max_length(prompt, most),
            return_logits_vocab=True,
            return_no_speech_prob=True,
            suppress_blank=False,  # taken for the prompt, the tokens would forbid the end
            suppress_tokens=self._tokens.suppress_tokens,
        )
        return Draft(result.sequences_ids[0], [_on_cpu(own) for own in result.logits[0]], float(result.no_speech_prob))


def _model(directory: Path, plan: Plan) -> ctranslate2.models.Whisper:
    try:
        return ctranslate2.models.Whisper(
            str(directory),
            device=plan.device,
            compute_type=plan.compute_type,
            inter_threads=plan.workers,
            intra_threads=plan.threads_per_worker,
        )
    except ValueError as error:
        raise DeviceUnavailable(f"{plan.device} with {plan.compute_type} can't be used: {error}") from error
    except RuntimeError as error:
        raise ModelError(f"the model in {directory.name} can't be loaded: {error}") from error


def _decoder(directory: Path, plan: Plan) -> Decoder | None:
    """Return our own decoder; None if it isn't wanted, or doesn't support the format of the weights."""
    try:
        return Decoder(directory / "model.bin") if plan.own_decoder else None
    except (OSError, ValueError):
        return None


def _on_cpu(logits: ctranslate2.StorageView) -> Logits:
    if logits.device == "cpu":
        return np.asarray(logits)
    return np.asarray(logits.to(ctranslate2.DataType.float32).to_device(ctranslate2.Device.cpu))


def _stack(batch: Sequence[EncodedWindow]) -> ctranslate2.StorageView:
    """Batch windows that were encoded one by one; encoding them together would be slower."""
    encodings = [encoded.encoding for encoded in batch]
    if len(encodings) == 1:
        return encodings[0]
    on_cpu = [np.asarray(encoding) for encoding in encodings]
    return ctranslate2.StorageView.from_array(np.concatenate(on_cpu, axis=0))
