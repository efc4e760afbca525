//! Server-sent events: a byte stream cut into complete events, and what one event says.

use super::{Failure, FailureKind};
use crate::decision::Usage;
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, Stream, StreamExt};
use serde::Deserialize;

/// An event larger than this is not one: memory stays bounded whatever the upstream sends.
const MAX_EVENT_BYTES: usize = 4 << 20;

/// Tokens of a request that are believed: no model reads or writes a tenth of that.
const MOST_TOKENS: f64 = 1e9;

/// Choices of one answer that are told apart.
const MOST_CHOICES: u64 = 128;

/// Cuts a byte stream into complete events, each with its closing blank line.
pub fn events(
    bytes: impl Stream<Item = Result<Bytes, Failure>> + Send + 'static,
) -> BoxStream<'static, Result<Bytes, Failure>> {
    struct Cutter<S> {
        source: S,
        buffer: BytesMut,
        /// So much of the buffer holds no end of an event: a long line is not searched again with every chunk.
        searched: usize,
        ended: bool,
    }
    let cutter = Cutter { source: Box::pin(bytes), buffer: BytesMut::new(), searched: 0, ended: false };
    futures::stream::unfold(cutter, |mut cutter| async move {
        loop {
            if let Some(end) = event_end(&cutter.buffer, cutter.searched) {
                let event = cutter.buffer.split_to(end).freeze();
                cutter.searched = 0;
                return Some((Ok(event), cutter));
            }
            cutter.searched = cutter.buffer.len().saturating_sub(LONGEST_END - 1);
            if cutter.ended {
                let rest = std::mem::take(&mut cutter.buffer);
                return last(&rest).map(|event| (Ok(event), cutter));
            }
            if cutter.buffer.len() > MAX_EVENT_BYTES {
                cutter.ended = true;
                cutter.buffer.clear();
                let failure =
                    Failure::new(FailureKind::Garbage, format!("an event of more than {MAX_EVENT_BYTES} bytes"));
                return Some((Err(failure), cutter));
            }
            match cutter.source.next().await {
                Some(Ok(chunk)) => cutter.buffer.extend_from_slice(&chunk),
                Some(Err(failure)) => {
                    cutter.ended = true;
                    cutter.buffer.clear();
                    return Some((Err(failure), cutter));
                }
                None => cutter.ended = true,
            }
        }
    })
    .boxed()
}

/// What is left when a stream ends without a blank line: an event, if it holds data, closed so that whatever follows
/// stands apart from it; else nothing.
fn last(rest: &[u8]) -> Option<Bytes> {
    let has_data = rest.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"data:"));
    has_data.then(|| Bytes::from([rest, b"\n\n"].concat()))
}

/// Bytes of the longest end of an event: two lines' ends, of which the first may be half of `\r\n`.
const LONGEST_END: usize = 3;

/// Length of the first complete event, with its closing blank line; none ends in what begins before `from`.
fn event_end(buffer: &[u8], mut from: usize) -> Option<usize> {
    while let Some(at) = buffer.get(from..)?.iter().position(|byte| *byte == b'\n') {
        let next = from + at + 1;
        match buffer[next..] {
            [b'\n', ..] => return Some(next + 1),
            [b'\r', b'\n', ..] => return Some(next + 2),
            _ => from = next,
        }
    }
    None
}

/// What an event says, as far as Waypost must know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// It carries data (a comment or keep-alive does not).
    pub has_data: bool,
    /// It is `[DONE]`.
    pub done: bool,
    /// A choice finishes in it.
    pub finished: bool,
    /// The choices that it is about, a bit each by their index.
    pub choices: u128,
    /// Those of them that finish in it.
    pub finishing: u128,
    /// A choice finishes in it because the answer reached its limit.
    pub cut: bool,
    /// It carries nothing but usage.
    pub only_usage: bool,
    pub usage: Option<Usage>,
    /// It is an error. Its words are not kept: a provider may repeat credentials or the prompt in them.
    pub error: bool,
    /// Its data is not JSON, or it is no event at all.
    pub garbage: bool,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<serde_json::Value>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: Option<serde_json::Value>,
    #[serde(default)]
    finish_reason: Option<serde_json::Value>,
}

/// A count of tokens, read leniently: providers send floats too, and one that cannot be read must not cost an answer.
pub fn tokens(count: Option<&serde_json::Value>) -> u64 {
    count.and_then(serde_json::Value::as_f64).map_or(0, |count| count.clamp(0.0, MOST_TOKENS) as u64)
}

/// Usage. Where neither prompt nor answer is counted, or a count of them cannot be believed, nothing is known: that is
/// not zero. DeepSeek tells what it read from its cache beside the details; xAI does not count what the model thought
/// among the tokens of the answer, and the total tells so.
pub fn usage(raw: &serde_json::Value) -> Option<Usage> {
    let count = |path: &str| tokens(raw.pointer(path));
    let (said, thought) = (count("/completion_tokens"), count("/completion_tokens_details/reasoning_tokens"));
    let beside = thought > 0 && count("/total_tokens") == count("/prompt_tokens") + said + thought;
    let both =
        ["/prompt_tokens", "/completion_tokens"].map(|path| raw.pointer(path).and_then(serde_json::Value::as_f64));
    let believed = |count: &f64| (0.0..=MOST_TOKENS).contains(count);
    let known = both.iter().any(Option::is_some) && both.iter().flatten().all(believed);
    known.then(|| Usage {
        prompt_tokens: count("/prompt_tokens"),
        cached_tokens: count("/prompt_tokens_details/cached_tokens").max(count("/prompt_cache_hit_tokens")),
        cache_write_tokens: count("/prompt_tokens_details/cache_write_tokens"),
        cache_write_1h_tokens: count("/prompt_tokens_details/cache_write_1h_tokens"),
        audio_tokens: count("/prompt_tokens_details/audio_tokens"),
        completion_tokens: if beside { said + thought } else { said },
        reasoning_tokens: thought,
        completion_audio_tokens: count("/completion_tokens_details/audio_tokens"),
    })
}

impl Choice {
    /// Some providers write an empty reason until there is one.
    fn finishes(&self) -> bool {
        self.finish_reason.as_ref().is_some_and(|reason| reason != "")
    }

    /// Its bit.
    fn bit(&self) -> u128 {
        let index = self.index.as_ref().and_then(serde_json::Value::as_u64).unwrap_or(0);
        1 << index.min(MOST_CHOICES - 1)
    }

    fn is_cut(&self) -> bool {
        self.finish_reason.as_ref().is_some_and(|reason| reason == "length")
    }
}

/// An event's name and its data, lines joined; `None` for one without data (a comment, a keep-alive).
pub fn frame(event: &[u8]) -> Option<(Option<String>, String)> {
    let text = String::from_utf8_lossy(event);
    let field = |name: &'static str| {
        text.lines().filter_map(move |line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    };
    let data: Vec<&str> = field("data").collect();
    (!data.is_empty()).then(|| (field("event").next().map(String::from), data.join("\n")))
}

/// Whether a line may stand in an event without data: a comment, or a field that the standard knows. Anything else is an
/// upstream that speaks something else, whose words a client would drop without a sign.
fn is_field(line: &str) -> bool {
    let name = line.split(':').next().unwrap_or_default();
    ["", "event", "id", "retry"].contains(&name)
}

/// Reads one event.
pub fn read(event: &[u8]) -> Event {
    let garbage = || Event { has_data: true, garbage: true, ..Event::default() };
    let Ok(text) = std::str::from_utf8(event) else { return garbage() };
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim).collect();
    let data = lines.join("\n");
    if lines.is_empty() {
        return if text.lines().all(is_field) { Event::default() } else { garbage() };
    }
    if data == "[DONE]" {
        return Event { has_data: true, done: true, ..Event::default() };
    }
    let Ok(chunk) = serde_json::from_str::<Chunk>(&data) else { return garbage() };
    let named_error = text.lines().any(|line| line.trim_end() == "event: error");
    let is_chunk = chunk.choices.is_some() || chunk.usage.is_some();
    let choices = chunk.choices.unwrap_or_default();
    Event {
        has_data: true,
        finished: choices.iter().any(Choice::finishes),
        choices: choices.iter().fold(0, |all, choice| all | choice.bit()),
        finishing: choices.iter().filter(|choice| choice.finishes()).fold(0, |all, choice| all | choice.bit()),
        cut: choices.iter().any(Choice::is_cut),
        only_usage: choices.is_empty() && chunk.usage.is_some(),
        usage: chunk.usage.as_ref().and_then(usage),
        error: chunk.error.is_some() || named_error || !is_chunk,
        ..Event::default()
    }
}

/// What a whole chat completion says, as one event; `None` when the bytes are no chat completion.
pub fn read_whole(body: &[u8]) -> Option<Event> {
    // From text: of bytes, strings that nobody reads would not be checked.
    let chunk: Chunk = serde_json::from_str(std::str::from_utf8(body).ok()?).ok()?;
    let choices = chunk.choices.filter(|choices| !choices.is_empty())?;
    let usage = chunk.usage.as_ref().and_then(usage);
    Some(Event { has_data: true, done: true, cut: choices.iter().any(Choice::is_cut), usage, ..Event::default() })
}

/// What an answer says, or one event of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Text, a tool call or a refusal.
    pub anything: bool,
    /// The model refuses, or a filter does.
    pub refuses: bool,
    /// Something other than text: a tool call, or several choices.
    pub more_than_text: bool,
}

#[derive(Deserialize)]
struct Spoken {
    #[serde(default)]
    choices: Vec<SpokenChoice>,
}

#[derive(Deserialize)]
struct SpokenChoice {
    #[serde(default)]
    index: usize,
    #[serde(default, alias = "message")]
    delta: Option<Spoke>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Spoke {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<serde::de::IgnoredAny>>,
}

impl Spoken {
    fn said(&self) -> Said {
        let is_text = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        self.choices.iter().fold(Said::default(), |said, choice| {
            let delta = choice.delta.as_ref();
            let calls = delta.is_some_and(|delta| delta.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty()));
            let refuses = delta.is_some_and(|delta| is_text(&delta.refusal));
            let text = delta.is_some_and(|delta| is_text(&delta.content));
            Said {
                anything: said.anything || calls || refuses || text,
                refuses: said.refuses || refuses || choice.finish_reason.as_deref() == Some("content_filter"),
                more_than_text: said.more_than_text || calls || choice.index > 0,
            }
        })
    }

    fn text(&self) -> String {
        let text = |choice: &SpokenChoice| choice.delta.as_ref().and_then(|delta| delta.content.clone());
        self.choices.iter().filter(|choice| choice.index == 0).filter_map(text).collect()
    }
}

fn spoken(event: &[u8]) -> Option<Spoken> {
    let (_, data) = frame(event)?;
    serde_json::from_str(&data).ok()
}

/// What one event of a stream says; `None` where it cannot be read so.
pub fn said(event: &[u8]) -> Option<Said> {
    spoken(event).map(|spoken| spoken.said())
}

/// What a whole answer says.
pub fn said_whole(body: &[u8]) -> Option<Said> {
    serde_json::from_slice::<Spoken>(body).ok().map(|spoken| spoken.said())
}

/// The text of one event of a stream, and whether it says more than text.
pub fn text(event: &[u8]) -> (String, bool) {
    spoken(event).map_or((String::new(), false), |spoken| (spoken.text(), spoken.said().more_than_text))
}

/// The text of a whole answer's first choice.
pub fn text_whole(body: &[u8]) -> String {
    serde_json::from_slice::<Spoken>(body).map_or(String::new(), |spoken| spoken.text())
}

/// An event that tells the client of a broken stream, in OpenAI's error shape.
pub fn error_event(message: &str) -> Bytes {
    let error = serde_json::json!({"error": {"message": message, "type": "upstream_error", "param": null, "code": "stream_broken"}});
    Bytes::from(format!("data: {error}\n\n"))
}

/// The event that ends a stream.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

#[cfg(test)]
mod tests {
    use super::{usage as usage_of, *};
    use futures::executor::block_on;
    use proptest::prelude::*;

    fn cut(chunks: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let source = futures::stream::iter(chunks.into_iter().map(|chunk| Ok(Bytes::from(chunk))));
        block_on(events(source).map(|event| event.unwrap().to_vec()).collect())
    }

    proptest! {
        /// However the network cuts the bytes, the same events come out and no byte is lost.
        #[test]
        fn any_chunking_gives_the_same_events(sizes in prop::collection::vec(1usize..9, 1..60)) {
            let text = b": hello\n\ndata: {\"a\":1}\n\ndata: x\r\n\r\nevent: e\ndata: \xc3\xa9\n\ndata: [DONE]\n\ndata: rest";
            let mut chunks = Vec::new();
            let mut from = 0;
            for size in sizes.iter().cycle() {
                if from >= text.len() { break; }
                let to = (from + size).min(text.len());
                chunks.push(text[from..to].to_vec());
                from = to;
            }
            let found = cut(chunks);
            prop_assert_eq!(found.len(), 6);
            prop_assert_eq!(found.concat(), [text.as_slice(), b"\n\n"].concat());
        }
    }

    #[test]
    fn what_is_left_without_data_is_dropped_and_what_has_data_is_closed() {
        assert_eq!(cut(vec![b"data: 1\n\n: keepal".to_vec()]), [b"data: 1\n\n".to_vec()]);
        assert_eq!(cut(vec![b"data: 1\n\ndat".to_vec()]).len(), 1);
        assert_eq!(cut(vec![b"data: [DONE]".to_vec()]), [b"data: [DONE]\n\n".to_vec()]);
    }

    /// Searched again from its beginning with every chunk, this one line would take minutes.
    #[test]
    fn a_long_event_in_small_chunks_takes_no_longer_than_a_short_one() {
        let line = [b"data: ".as_slice(), &vec![b'x'; 3 << 20]].concat();
        let chunks = line.chunks(64).map(<[u8]>::to_vec).chain([b"\r\n\r".to_vec(), b"\n".to_vec()]).collect();
        let begun = std::time::Instant::now();
        assert_eq!(cut(chunks)[0].len(), line.len() + 4);
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
    }

    #[test]
    fn what_is_no_event_and_what_is_no_text_is_garbage() {
        for event in [b"{\"choices\":[]}\n\n".as_slice(), b"<html>\n\n", b"data: {\"choices\":[],\"x\":\"\xff\"}\n\n"] {
            assert!(read(event).garbage, "{event:?}");
        }
        for event in [b"\n".as_slice(), b": hello\n\n", b"event: ping\nid: 7\nretry: 10\n\n", b"event: ping\r\n\r\n"] {
            assert_eq!(read(event), Event::default(), "{event:?}");
        }
        let whole = |text: &[u8]| [br#"{"choices":[{"message":{"content":""#.as_slice(), text, br#""}}]}"#].concat();
        assert!(read_whole(&whole(b"caf\xc3\xa9")).is_some());
        assert!(read_whole(&whole(b"caf\xe9")).is_none());
    }

    #[test]
    fn errors_are_known_by_name_key_or_shape_and_odd_counts_cost_nothing() {
        for event in ["event: error\ndata: {\"choices\":[]}", "data: {\"error\":{}}", "data: {\"object\":\"error\"}"] {
            assert!(read(event.as_bytes()).error, "{event}");
        }
        let odd = read(
            br#"data: {"choices":[{"finish_reason":"length"}],"usage":{"prompt_tokens":5.0,"completion_tokens":null}}"#,
        );
        assert_eq!((odd.error, odd.cut, odd.usage.unwrap().prompt_tokens), (false, true, 5));
    }

    #[test]
    fn events_are_understood() {
        assert!(!read(b": keep-alive\n\n").has_data);
        assert!(read(b"data: [DONE]\n\n").done);
        assert!(read(b"data: nonsense\n\n").garbage);
        let usage = read(br#"data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":3}}}"#);
        let counted = Usage { prompt_tokens: 5, cached_tokens: 3, completion_tokens: 2, ..Usage::default() };
        assert_eq!(usage.usage, Some(counted));
        assert!(usage.only_usage);
        let more = read(br#"data: {"usage":{"prompt_tokens":90,"prompt_cache_hit_tokens":30,"prompt_tokens_details":{"cache_write_tokens":20,"cache_write_1h_tokens":5},"completion_tokens_details":{"reasoning_tokens":7}}}"#).usage;
        let more = more.map(|usage| {
            (usage.cached_tokens, usage.cache_write_tokens, usage.cache_write_1h_tokens, usage.reasoning_tokens)
        });
        assert_eq!(more, Some((30, 20, 5, 7)));
        assert!(read(br#"data: {"choices":[{"finish_reason":"stop","delta":{}}]}"#).finished);
        let counted = |usage| usage_of(usage).map(|usage| (usage.completion_tokens, usage.reasoning_tokens));
        let xai = serde_json::json!({"prompt_tokens": 37, "completion_tokens": 530, "total_tokens": 800,
            "completion_tokens_details": {"reasoning_tokens": 233}});
        assert_eq!(counted(&xai), Some((763, 233)));
        let openai = serde_json::json!({"prompt_tokens": 37, "completion_tokens": 530, "total_tokens": 567,
            "completion_tokens_details": {"reasoning_tokens": 233}});
        assert_eq!(counted(&openai), Some((530, 233)));
        assert!(!read(br#"data: {"choices":[{"finish_reason":"","delta":{}}]}"#).finished, "an empty reason is none");
        let both = read(br#"data: {"choices":[{"index":0,"finish_reason":"stop"},{"index":1,"delta":{}}]}"#);
        assert_eq!((both.choices, both.finishing), (0b11, 0b01));
        assert!(read(br#"data: {"error":{"message":"boom"}}"#).error);
    }

    #[test]
    fn a_count_that_nobody_can_believe_is_not_known() {
        let of = |text: &str| usage(&serde_json::from_str(text).unwrap());
        assert_eq!(of("{}"), None);
        assert_eq!(of(r#"{"total_tokens":5}"#), None);
        assert_eq!(of(r#"{"prompt_tokens":-3,"completion_tokens":2}"#), None);
        assert_eq!(of(r#"{"prompt_tokens":18446744073709551615,"completion_tokens":18446744073709551615}"#), None);
        assert_eq!(of(r#"{"completion_tokens":2.0}"#).map(|usage| usage.completion_tokens), Some(2));
    }
}
