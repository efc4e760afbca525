//! Conversations: which deployment answered one last, and how much of its prompt that deployment's provider has cached.
//! Staying is no rule of its own: the cached prefix makes it cheaper, and the ranking counts that. A conversation is
//! forgotten when it has been silent for long, and its deployment with it.

use crate::chat::{ChatRequest, Role};
use crate::config::SessionConfig;
use parking_lot::Mutex;
use quick_cache::unsync::Cache;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

/// Prompts shorter than this are cached by hardly any provider (OpenAI, Anthropic, Gemini: from 1,024 tokens on).
const LEAST_CACHED_TOKENS: u64 = 1_024;

/// Characters of a conversation's opening that name it.
const OPENING_CHARS: usize = 4_096;

/// Recent conversations, bounded.
pub struct Sessions {
    config: SessionConfig,
    /// Locked to copy or write a few numbers, never across an await.
    known: Mutex<Cache<u64, Session>>,
}

/// What is known of a conversation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Session {
    /// Place in the fleet of the deployment that answered last.
    pub deployment: usize,
    /// Prompt tokens of that request, as estimated; what came back is part of the next prompt but cached by few.
    pub tokens: u64,
    pub at: Instant,
}

impl Sessions {
    /// Room for as many as the configuration says.
    pub fn new(config: SessionConfig) -> Self {
        let known = Mutex::new(Cache::new(config.keep.max(1)));
        Sessions { config, known }
    }

    /// What names the conversation that a request belongs to: what the caller says (`x-waypost-session`,
    /// `prompt_cache_key`, `user`), or its opening. `tenant` keeps callers with different keys apart.
    pub fn key(&self, named: Option<&str>, request: &ChatRequest, tenant: Option<&str>) -> u64 {
        let mut hasher = DefaultHasher::new();
        tenant.hash(&mut hasher);
        match named {
            Some(name) => name.hash(&mut hasher),
            None => opening(request, &mut hasher),
        }
        hasher.finish()
    }

    /// The conversation, where it is known and was heard of not too long ago.
    pub fn get(&self, key: u64, now: Instant) -> Option<Session> {
        let known = self.known.lock().get(&key).copied()?;
        (now.saturating_duration_since(known.at) < self.config.forget).then_some(known)
    }

    /// How much of a prompt of `tokens_in` the last deployment is expected to have cached.
    pub fn cached_tokens(&self, session: &Session, tokens_in: u64, now: Instant) -> u64 {
        let fresh = now.saturating_duration_since(session.at) < self.config.cached;
        let tokens = session.tokens.min(tokens_in);
        if fresh && tokens >= LEAST_CACHED_TOKENS { tokens } else { 0 }
    }

    /// Notes who answered a conversation, and how long its prompt was.
    pub fn remember(&self, key: u64, deployment: usize, tokens: u64, now: Instant) {
        self.known.lock().insert(key, Session { deployment, tokens, at: now });
    }
}

/// The first system message and the first user turn: they stay the same while a conversation grows.
fn opening(request: &ChatRequest, hasher: &mut DefaultHasher) {
    for role in [Role::System, Role::User] {
        if let Some(first) = request.messages.iter().find(|message| message.role == role) {
            let end = first.text.char_indices().nth(OPENING_CHARS).map_or(first.text.len(), |(at, _)| at);
            // The length tells apart what begins with the same long template.
            (role as u8, first.text.len(), &first.text[..end]).hash(hasher);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn sessions() -> Sessions {
        Sessions::new(SessionConfig { keep: 100, cached: Duration::from_secs(300), forget: Duration::from_secs(3_600) })
    }

    fn request(turns: &[&str]) -> ChatRequest {
        let roles = ["user", "assistant"].iter().cycle();
        let messages: Vec<_> =
            turns.iter().zip(roles).map(|(text, role)| serde_json::json!({"role": role, "content": text})).collect();
        ChatRequest::parse(serde_json::json!({"messages": messages}).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_conversation_is_known_by_its_opening_or_its_name_and_tenants_are_apart() {
        let sessions = sessions();
        let (first, later) = (request(&["hello"]), request(&["hello", "hi", "more"]));
        assert_eq!(sessions.key(None, &first, None), sessions.key(None, &later, None));
        assert_ne!(sessions.key(None, &first, None), sessions.key(None, &request(&["other"]), None));
        assert_ne!(sessions.key(None, &first, None), sessions.key(None, &first, Some("tenant")));
        assert_eq!(sessions.key(Some("s"), &first, None), sessions.key(Some("s"), &request(&["other"]), None));
    }

    #[test]
    fn what_is_cached_is_what_was_sent_and_not_for_ever() {
        let (sessions, now) = (sessions(), Instant::now());
        sessions.remember(7, 3, 5_000, now);
        let session = sessions.get(7, now).unwrap();
        assert_eq!(sessions.cached_tokens(&session, 6_000, now), 5_000);
        assert_eq!(sessions.cached_tokens(&session, 4_000, now), 4_000, "a prompt that was cut");
        assert_eq!(sessions.cached_tokens(&session, 500, now), 0, "too short to be cached");
        assert_eq!(sessions.cached_tokens(&session, 6_000, now + Duration::from_secs(301)), 0);
        assert!(sessions.get(7, now + Duration::from_secs(3_601)).is_none());
    }
}
