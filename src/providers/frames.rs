//! AWS's binary event stream, cut into frames. Each leaves as a server-sent event of the same name and data, so that
//! everything behind it reads one kind of stream. An exception keeps its name: what it means, the dialect knows.
//!
//! The format (lengths, headers, two checksums) is that of the AWS SDKs' event stream specification.

use super::{Failure, FailureKind};
use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder};
use aws_smithy_types::event_stream::Message;
use bytes::{Buf, Bytes, BytesMut};
use futures::stream::{BoxStream, Stream, StreamExt};

/// A message larger than this is not one: memory stays bounded whatever the upstream sends.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// No message is smaller: its two lengths and two checksums.
const MIN_MESSAGE_BYTES: usize = 16;

/// Cuts a byte stream into frames.
pub fn events(
    bytes: impl Stream<Item = Result<Bytes, Failure>> + Send + 'static,
) -> BoxStream<'static, Result<Bytes, Failure>> {
    let cutter = Some(Cutter { source: Box::pin(bytes), buffer: BytesMut::new() });
    futures::stream::unfold(cutter, |cutter| async move {
        let mut cutter = cutter?;
        match cutter.next().await {
            Ok(Some(event)) => Some((Ok(event), Some(cutter))),
            Ok(None) => None,
            Err(failure) => Some((Err(failure), None)),
        }
    })
    .boxed()
}

struct Cutter<S> {
    source: S,
    buffer: BytesMut,
}

impl<S: Stream<Item = Result<Bytes, Failure>> + Unpin> Cutter<S> {
    /// The next message as an event; `None` at the end of the stream.
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(message) = cut(&mut self.buffer)? {
                return event(&message).map(Some);
            }
            match self.source.next().await {
                Some(chunk) => self.buffer.extend_from_slice(&chunk?),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Failure::new(FailureKind::Down, "the stream ended within a message")),
            }
        }
    }
}

/// The first message, taken out of the buffer; `None` while it is incomplete.
fn cut(buffer: &mut BytesMut) -> Result<Option<Message>, Failure> {
    let Some(mut length) = buffer.get(..4) else { return Ok(None) };
    let length = length.get_u32() as usize;
    if !(MIN_MESSAGE_BYTES..=MAX_MESSAGE_BYTES).contains(&length) {
        return Err(garbage(format!("a message of {length} bytes")));
    }
    if buffer.len() < length {
        return Ok(None);
    }
    let mut whole = buffer.split_to(length);
    match MessageFrameDecoder::new().decode_frame(&mut whole) {
        Ok(DecodedFrame::Complete(message)) => Ok(Some(message)),
        Ok(DecodedFrame::Incomplete) => Err(garbage("a message shorter than it says".into())),
        Err(error) => Err(garbage(error.to_string())),
    }
}

/// The message as a server-sent event: its name from `:event-type` or `:exception-type`, its data the payload.
fn event(message: &Message) -> Result<Bytes, Failure> {
    let name = match header(message, ":message-type") {
        Some("event") => header(message, ":event-type"),
        Some("exception") => header(message, ":exception-type"),
        Some("error") => {
            let code = header(message, ":error-code").unwrap_or("without a code");
            return Err(Failure::new(FailureKind::Down, format!("streamed the error {code}")));
        }
        _ => None,
    };
    let name =
        name.filter(|name| !name.contains(['\r', '\n'])).ok_or_else(|| garbage("a message without a type".into()))?;
    let payload = std::str::from_utf8(message.payload()).map_err(|_| garbage("a message that is no text".into()))?;
    let mut event = format!("event: {name}\n");
    for line in payload.split('\n') {
        event.push_str("data: ");
        event.push_str(line);
        event.push('\n');
    }
    event.push('\n');
    Ok(Bytes::from(event))
}

/// The value of a header that holds text.
fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    let header = message.headers().iter().find(|header| header.name().as_str() == name)?;
    header.value().as_string().ok().map(|value| value.as_str())
}

fn garbage(what: String) -> Failure {
    Failure::new(FailureKind::Garbage, format!("its event stream holds {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::sse;
    use aws_smithy_eventstream::frame::write_message_to;
    use aws_smithy_types::event_stream::{Header, HeaderValue};
    use futures::executor::block_on;
    use proptest::prelude::*;

    fn message(headers: &[(&'static str, &'static str)], payload: &'static str) -> Vec<u8> {
        let message = headers.iter().fold(Message::new(payload), |message, (name, value)| {
            message.add_header(Header::new(*name, HeaderValue::String((*value).into())))
        });
        let mut bytes = Vec::new();
        write_message_to(&message, &mut bytes).unwrap();
        bytes
    }

    fn named(name: &'static str, payload: &'static str) -> Vec<u8> {
        message(&[(":message-type", "event"), (":event-type", name), (":content-type", "application/json")], payload)
    }

    fn read(chunks: impl IntoIterator<Item = Vec<u8>>) -> Vec<Result<(Option<String>, String), FailureKind>> {
        let chunks: Vec<_> = chunks.into_iter().map(|chunk| Ok(Bytes::from(chunk))).collect();
        let events = events(futures::stream::iter(chunks));
        let read = |event: Result<Bytes, Failure>| match event {
            Ok(event) => Ok(sse::frame(&event).expect("every message is an event with data")),
            Err(failure) => Err(failure.kind),
        };
        block_on(events.map(read).collect())
    }

    proptest! {
        /// However the network cuts the bytes, the same frames come out.
        #[test]
        fn any_chunking_gives_the_same_frames(sizes in prop::collection::vec(1usize..40, 1..60)) {
            let payloads = [("messageStart", "{\"role\":\"assistant\"}"), ("contentBlockDelta", "{\"text\":\"é\"}"), ("two", "a\nb"), ("last", "")];
            let bytes: Vec<u8> = payloads.iter().flat_map(|(name, payload)| named(name, payload)).collect();
            let (mut chunks, mut from) = (Vec::new(), 0);
            for size in sizes.iter().cycle() {
                let to = (from + size).min(bytes.len());
                chunks.push(bytes[from..to].to_vec());
                from = to;
                if from == bytes.len() { break }
            }
            let expected: Vec<_> = payloads.iter().map(|(name, data)| Ok((Some(name.to_string()), data.to_string()))).collect();
            prop_assert_eq!(read(chunks), expected);
        }

        /// A flipped bit anywhere is noticed, and bytes of any kind never panic.
        #[test]
        fn damage_is_noticed(at in 0usize..90, bit in 0u8..8, noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = named("contentBlockDelta", "{\"text\":\"hello\"}");
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert!(read([bytes]).iter().all(Result::is_err));
            read([noise]);
        }
    }

    #[test]
    fn an_exception_keeps_its_name_and_an_error_ends_the_stream() {
        let exception = message(&[(":message-type", "exception"), (":exception-type", "throttlingException")], "{}");
        assert_eq!(read([exception]), [Ok((Some("throttlingException".into()), "{}".into()))]);
        let error = message(&[(":message-type", "error"), (":error-code", "InternalFailure")], "");
        assert_eq!(read([error, named("after", "{}")]), [Err(FailureKind::Down)]);
    }

    #[test]
    fn a_stream_cut_within_a_message_is_broken_and_a_giant_one_refused() {
        let whole = named("messageStop", "{}");
        let (name, data) = (Some("messageStop".to_string()), "{}".to_string());
        assert_eq!(read([whole.clone(), whole[..20].to_vec()]), [Ok((name, data)), Err(FailureKind::Down)]);
        assert_eq!(read([vec![0x7f, 0, 0, 0, 0]]), [Err(FailureKind::Garbage)]);
    }
}
