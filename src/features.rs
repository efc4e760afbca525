//! Facts read off a request: constraints for the choice of a deployment, never guesses about its difficulty.

use crate::chat::{ChatRequest, Needs, Role};
use serde::Serialize;
use utoipa::ToSchema;

/// What a request demands of whoever answers it.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Features {
    /// Estimated prompt tokens: bytes / 4, which holds for scripts of several bytes a character, where characters / 4 does not.
    pub tokens_in: u64,
    /// The caller's limit on the answer, in tokens.
    pub max_tokens: Option<u64>,
    /// Whether the text is mostly ASCII, which tokenizers split otherwise.
    #[serde(skip)]
    pub ascii: bool,
    /// Messages in the conversation.
    pub messages: usize,
    /// User turns in the conversation.
    pub user_turns: usize,
    /// ISO 639-3 code of the last user turn's language, when the detector is sure; absent where the prompt was not read.
    pub language: Option<String>,
    /// Images in the conversation.
    pub images: usize,
    /// Answers wanted.
    pub choices: u64,
    /// Tool definitions given.
    pub tools: usize,
    /// Whether the answer must be JSON.
    pub json_schema: bool,
    /// What it asks for that not every provider can say.
    #[serde(skip)]
    pub needs: Needs,
    /// Whether the last message is the result of a tool.
    pub tool_result: bool,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// The conversation this belongs to (`prompt_cache_key` or `user`).
    pub session: Option<String>,
}

/// A message's own tokens: role and separators in the chat templates of current models.
const TOKENS_PER_MESSAGE: u64 = 4;

/// Tokens assumed of an image: what a picture of about a megapixel costs at the large providers; a guess until the
/// provider's own count is known.
const TOKENS_PER_IMAGE: u64 = 1_000;

/// Characters looked at for the language.
const LANGUAGE_CHARS: usize = 512;

impl Features {
    /// Reads the facts off a request.
    pub fn read(request: &ChatRequest) -> Self {
        let bytes = request.definition_bytes
            + request.messages.iter().map(|message| message.text.len() + message.call_bytes).sum::<usize>();
        let images: usize = request.messages.iter().map(|message| message.images).sum();
        let user_turns = request.messages.iter().filter(|message| message.role == Role::User);
        Features {
            tokens_in: (bytes as u64).div_ceil(4)
                + TOKENS_PER_MESSAGE * request.messages.len() as u64
                + TOKENS_PER_IMAGE * images as u64,
            max_tokens: request.max_tokens,
            ascii: is_mostly_ascii(request),
            messages: request.messages.len(),
            user_turns: user_turns.count(),
            language: None,
            images,
            choices: request.choices,
            tools: request.tools,
            json_schema: request.json_schema,
            needs: request.needs,
            tool_result: request.messages.last().is_some_and(|message| message.role == Role::Tool),
            stream: request.stream,
            session: request.session.clone(),
        }
    }
}

/// Whether at most a tenth of the conversation's bytes are not ASCII.
fn is_mostly_ascii(request: &ChatRequest) -> bool {
    let bytes = |text: &str| {
        (text.len(), if text.is_ascii() { 0 } else { text.bytes().filter(|byte| !byte.is_ascii()).count() })
    };
    let (all, other) =
        request.messages.iter().map(|message| bytes(&message.text)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    other * 10 <= all
}

/// The language of the last user turn: the slowest of the features (0.1 ms), so only of requests whose prompt is read.
pub fn language(request: &ChatRequest) -> Option<String> {
    let last = request.messages.iter().rev().find(|message| message.role == Role::User)?;
    let text: String = last.text.chars().take(LANGUAGE_CHARS).collect();
    whatlang::detect(&text).filter(|info| info.is_reliable()).map(|info| info.lang().code().into())
}
