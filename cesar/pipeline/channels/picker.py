"""Which of a recording's channels is heard: their mix, unless it loses speech that one of them holds.

A quiet voice in one channel drowns in loud music in the other, and a voice in opposite phase in both cancels itself
out. Speech is detected in the mix; where there is little, also in each channel and in what a channel has beyond the
others. A source with speech that the mix lacks replaces the mix until that holds the speech again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from cesar.ledger import short_clock
from cesar.pipeline.channels.sources import DIFFERENCE, MIX, Detection, Source, Window, sources_of
from cesar.pipeline.channels.talkers import TwoTalkers
from cesar.pipeline.samples import SAMPLE_RATE, Channels, Samples
from cesar.pipeline.speech.quiet_speech import Amplifier, QuietSpeechDetector
from cesar.pipeline.speech.vad import FRAME_S, FRAME_SAMPLES, Probabilities, SpeechDetector, whole_frames

_WINDOW = 25 * FRAME_SAMPLES
"""0.8 s, the minimum time between choices."""
_MIN_SPEECH_FRAMES = 10
"""Fewer frames with speech in a window may be an accident: 0.3 s."""
_MARGIN_FRAMES = 2
_MIX_SHARE = 0.6
"""The mix is preferred if it has this share of the frames of the source with the most speech…"""
_MIX_SHARE_SHARED = 0.3
"""…or this, if all channels held that speech before: an ordinary stereo voice that drops for a moment…"""
_MIX_SHARE_REST = 0.3
"""…or this in two windows, if the source is the rest of a channel, which may be a codec's error…"""
_STAY_SHARE = 0.8
"""…and the current source is kept if it has this share."""
_FADE = 256
"""Samples: 16 ms."""
_TARGET_RMS = 0.03
"""A quiet source is amplified up to this root mean square…"""
_MAX_GAIN = 32.0
"""…but never by more than this."""
_LEVEL_DECAY = 0.9
_DECAY_PER_WINDOW = 0.95
"""Per window."""
_CARRIES = 0.5
_MAX_NAMED_SPANS = 5


class _SourceListener:
    """Speech detection in a source beside the mix, with its level."""

    def __init__(self, detector: SpeechDetector) -> None:
        self._detector = detector
        self._level = 0.0

    def set_level(self, sound: Samples) -> None:
        """Update the level with the next block."""
        self._level = max(self._level * _LEVEL_DECAY, float(np.sqrt(np.mean(np.square(sound)))))

    def listen(self, sound: Samples) -> tuple[Samples, Probabilities]:
        """Return the sound, amplified if it is quiet, and its speech probabilities."""
        louder: Samples = sound * np.float32(np.clip(_TARGET_RMS / max(self._level, 1e-9), 1.0, _MAX_GAIN))
        return louder, self._detector.feed(louder)


class _Carriers:
    """Which channels hold the speech: what each had of it in the last quarter of a minute, where it was listened to."""

    def __init__(self) -> None:
        self._own: dict[int, float] = {}
        self._most: dict[int, float] = {}

    def observe(self, window: Window) -> None:
        """Update with a window."""
        most = max(heard.speech_frames for heard in window.heard.values())
        for channel in window.sources.channels:
            if Source(channel) in window.heard:
                self._own[channel] = self._own.get(channel, 0.0) * _DECAY_PER_WINDOW + window.speech_frames(
                    Source(channel)
                )
                self._most[channel] = self._most.get(channel, 0.0) * _DECAY_PER_WINDOW + most

    def are_all_but(self, source: Source) -> bool:
        """Whether every channel beside this one holds what is said."""
        others = [channel for channel in self._most if channel != source.channel]
        return bool(others) and all(
            self._own[other] >= max(_MIN_SPEECH_FRAMES, _CARRIES * self._most[other]) for other in others
        )


class ChannelPicker:
    """Listens to mix and channels, and gives what is to be transcribed, with the probability of speech in it."""

    def __init__(self, names: Sequence[str] = (), start: int = 0) -> None:
        """names: of the channels, in warnings. start: where listening begins, in samples of the recording."""
        self._names = names
        self._position = start
        self._mix = SpeechDetector()
        self._amplifier = Amplifier()
        self._quiet_speech = QuietSpeechDetector(self._mix)
        self._others: dict[Source, _SourceListener] = {}
        self._recent: deque[Window] = deque(maxlen=2)
        """The last two windows. The newer is held back until it is known what follows."""
        self._source = MIX
        """What was given last…"""
        self._chosen = MIX
        """…and what the window that is held back is to be."""
        self._talkers = TwoTalkers()
        self._carriers = _Carriers()
        self._taken: dict[Source, list[tuple[int, int]]] = {}
        self._unused_speech: dict[Source, int] = {}
        """Frames of speech in what was not taken, while the mix had none."""

    def pick(self, blocks: Iterable[Channels]) -> Iterator[tuple[Samples, Probabilities]]:
        """Yield the sound to be transcribed, whole, in order, in blocks of its own; and its frames' probabilities."""
        for block in map(self._amplifier.feed, whole_frames(blocks)):
            mix, found = self._quiet_speech.detect(block[0], self._mix.feed(block[0]))
            if len(block) == 1:
                yield from self._given([*self._released()])
                yield mix, found
                self._position += block.shape[1]
                self._source = self._chosen = MIX
                continue
            windows = self._windows(block, mix, found)
            yield from self._given([part for window in windows for part in self._passed(window)])
        yield from self._given([*self._released()])

    def warnings(self, *, has_speech: bool) -> list[str]:
        """Return the warnings about channels; has_speech: whether the transcribed sound has any."""
        messages = [self._describe(source, spans) for source, spans in self._taken.items()]
        if not has_speech and self._unused_speech:
            source = max(self._unused_speech, key=lambda one: self._unused_speech[one])
            seconds = self._unused_speech[source] * FRAME_S
            messages.append(
                f"{self._named(source)} may hold {seconds:.1f} s of speech, too little to tell: nothing was taken"
            )
        return [*messages, *self._talkers.warnings()]

    def _windows(self, block: Channels, mix: Samples, found: Probabilities) -> list[Window]:
        """Cut a block into windows and listen to what is worth it; mix: as it was heard, found: in which frames."""
        sources = sources_of(block)
        cuts = range(0, block.shape[1], _WINDOW)
        windows = [Window(block[:, at : at + _WINDOW], sources) for at in cuts]
        _note(windows, MIX, mix, found)
        is_lacking = any(window.speech_frames(MIX) < _MIN_SPEECH_FRAMES for window in windows)
        wanted = sources.worth_examining(is_lacking=is_lacking)
        if self._chosen not in (MIX, *wanted):
            wanted.append(self._chosen)
        for source in self._others.keys() - set(wanted):
            del self._others[source]
        for source in wanted:
            sound, found = self._listened(source, sources.sound(source, block))
            _note(windows, source, sound, found)
        return windows

    def _listened(self, source: Source, sound: Samples) -> tuple[Samples, Probabilities]:
        """Listen to a source, and if it was not listened to before, to what came last as well."""
        if source not in self._others:
            self._others[source] = other = _SourceListener(SpeechDetector(self._mix.network))
            other.set_level(sound)
            for before in self._recent:
                _note([before], source, *other.listen(before.sources.sound(source, before.sound)))
        else:
            other = self._others[source]
            other.set_level(sound)
        return other.listen(sound)

    def _passed(self, window: Window) -> Iterator[tuple[Samples, Probabilities]]:
        """Take in a window; yield the one before, now that it is known whether something new begins after it."""
        self._talkers.observe(window)
        self._carriers.observe(window)
        chosen = self._choice(window)
        if self._recent:
            held = self._recent[-1]
            if held.speech_frames(chosen) + _MARGIN_FRAMES >= held.speech_frames(self._chosen) and chosen in held.heard:
                self._chosen = chosen  # its first sound may begin there
            yield self._finished(held)
        self._recent.append(window)
        self._chosen = chosen

    def _released(self) -> Iterator[tuple[Samples, Probabilities]]:
        if self._recent:
            held = self._recent[-1]
            self._recent.clear()
            yield self._finished(held)

    def _choice(self, window: Window) -> Source:
        others = [source for source in window.heard if source != MIX]
        best = max(others, key=window.speech_frames, default=MIX)
        mixed, most = window.speech_frames(MIX), window.speech_frames(best)
        if self._is_better(best, window):
            is_kept = self._chosen != MIX and window.speech_frames(self._chosen) >= _STAY_SHARE * most
            return self._chosen if is_kept else best
        if self._chosen != MIX and (
            mixed >= _MIN_SPEECH_FRAMES or mixed > window.speech_frames(self._chosen) + _MARGIN_FRAMES
        ):
            return MIX
        if mixed == 0 and most > 0 and self._chosen == MIX:
            self._unused_speech[best] = self._unused_speech.get(best, 0) + most
        return self._chosen

    def _is_better(self, source: Source, window: Window) -> bool:
        """Whether the source has speech that the mix loses."""
        if source.is_channel:
            if self._carriers.are_all_but(source):
                return window.speech_frames(source) >= _MIN_SPEECH_FRAMES and window.mix_lacks(
                    source, _MIX_SHARE_SHARED
                )
            return window.speech_frames(source) >= _MIN_SPEECH_FRAMES and (
                window.mix_lacks(source, _MIX_SHARE) or window.is_drowned(source)
            )
        begun = [window] if self._chosen == source else [window, *list(self._recent)[-1:]]
        return len(begun) + (self._chosen == source) == 2 and all(
            one.speech_frames(source) >= _MIN_SPEECH_FRAMES and one.mix_lacks(source, _MIX_SHARE_REST) for one in begun
        )

    def _finished(self, window: Window) -> tuple[Samples, Probabilities]:
        source = self._chosen
        sound = window.sound_of(source)
        if source != self._source:
            sound = _faded(window.sound_of(self._source), sound)
        self._source = source
        begin, self._position = self._position, self._position + len(sound)
        if source != MIX and window.speech_frames(source):
            spans = self._taken.setdefault(source, [])
            if spans and begin - spans[-1][1] <= 4 * _WINDOW:
                begin = spans.pop()[0]
            spans.append((begin, self._position))
        return sound, window.heard.get(source, window.heard[MIX]).probabilities

    @staticmethod
    def _given(parts: list[tuple[Samples, Probabilities]]) -> Iterator[tuple[Samples, Probabilities]]:
        if parts:
            yield np.concatenate([sound for sound, _ in parts]), np.concatenate([found for _, found in parts])

    def _named(self, source: Source) -> str:
        if source == DIFFERENCE:
            return f"the difference of {self._name(1)} and {self._name(2)}"
        name = self._name(source.channel)
        return f"{name}, without what it shares with the others," if source.is_rest else name

    def _name(self, number: int) -> str:
        return self._names[number - 1] if number <= len(self._names) else f"channel {number}"

    def _describe(self, source: Source, spans: Sequence[tuple[int, int]]) -> str:
        times = [f"{short_clock(a / SAMPLE_RATE)}-{short_clock(b / SAMPLE_RATE)}" for a, b in spans[:_MAX_NAMED_SPANS]]
        more = f" and {len(spans) - _MAX_NAMED_SPANS} more places" if len(spans) > _MAX_NAMED_SPANS else ""
        return (
            f"{self._named(source)} was transcribed alone at {', '.join(times)}{more}: "
            "in the mix of all channels its speech is drowned"
        )


def _faded(before: Samples, after: Samples) -> Samples:
    count = min(_FADE, len(before), len(after))
    rising = np.linspace(0, 1, count, dtype=np.float32)
    faded = after.copy()
    faded[:count] = before[:count] * (1 - rising) + after[:count] * rising
    return faded


def _note(windows: Sequence[Window], source: Source, sound: Samples, found: Probabilities) -> None:
    """Share out what was heard among windows that follow one another."""
    for number, window in enumerate(windows):
        first, last = number * _WINDOW, (number + 1) * _WINDOW
        own = found[first // FRAME_SAMPLES : last // FRAME_SAMPLES]
        window.heard[source] = Detection(sound[first:last], own)
