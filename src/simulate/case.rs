//! One line of a request file: a prompt, a whole chat request, a line of a batch file, or a recorded decision; with what
//! is known of it beside: token counts, the right class, how well each model answered it, and for how many it stands.

use crate::chat::ChatRequest;
use crate::features::Features;
use crate::limits;
use crate::money::Money;
use crate::router::Caller;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// The path of a request that names none.
const PATH: &str = "/v1/chat/completions";

/// A request to be simulated.
pub struct Case {
    pub request: ChatRequest,
    pub features: Features,
    pub caller: Caller,
    /// Whether it has a conversation; otherwise only its class says what it is about.
    pub has_text: bool,
    /// What it is decided by where prompts are not read.
    pub class: Option<String>,
    /// The right class.
    pub label: Option<String>,
    /// How well each class, model or deployment answered it, 0..1.
    pub score: BTreeMap<String, f64>,
    /// The prompt's tokens were counted by a provider.
    pub counted: bool,
    /// The answer's tokens, all answers together, where a provider counted them.
    pub tokens_out: Option<u64>,
    /// For how many equal requests it stands, at least 1.
    pub count: u64,
    pub at: Option<Timestamp>,
    /// What it cost when it was recorded.
    pub recorded: Option<Money>,
}

/// A line as written. A whole chat request has other fields, which are left to [`ChatRequest`].
#[derive(Default, Deserialize)]
#[serde(default)]
struct Line {
    prompt: Option<String>,
    messages: Option<Box<RawValue>>,
    /// The request of a batch file.
    body: Option<Box<RawValue>>,
    url: Option<String>,
    class: Option<String>,
    label: Option<String>,
    score: BTreeMap<String, f64>,
    tokens_in: Option<u64>,
    tokens_out: Option<u64>,
    count: Option<u64>,
    /// A name; a recorded decision has something else here.
    session: Option<Value>,
    at: Option<Timestamp>,
    headers: BTreeMap<String, String>,
    tags: Vec<String>,
    tier: Option<String>,
    path: Option<String>,
    /// Of a recorded decision.
    features: Option<Facts>,
    created_ms: Option<i64>,
    outcome: Option<Outcome>,
}

/// The facts that a recorded decision keeps of its request.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Facts {
    tokens_in: u64,
    max_tokens: Option<u64>,
    messages: usize,
    user_turns: usize,
    images: usize,
    choices: u64,
    tools: usize,
    json_schema: bool,
    tool_result: bool,
    stream: bool,
    session: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Outcome {
    usage: Option<Counts>,
    cost: Option<Money>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Counts {
    prompt_tokens: u64,
    completion_tokens: u64,
}

impl Case {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let line: Line = match text.trim_ascii().first() {
            Some(b'{') => serde_json::from_slice(text).map_err(|error| error.to_string())?,
            _ => return Err("it is no JSON object".into()),
        };
        if line.count == Some(0) {
            return Err("`count`: expected at least 1, got 0".into());
        }
        if let Some((name, score)) = line.score.iter().find(|(_, score)| !(0.0..=1.0).contains(*score)) {
            return Err(format!("`score`: expected 0 to 1 for `{name}`, got {score}"));
        }
        let request = request(&line, text)?;
        let has_text = line.prompt.is_some() || line.messages.is_some() || line.body.is_some();
        let is_recorded = !has_text && line.features.is_some();
        let class = line.class.as_ref().or(line.label.as_ref()).cloned();
        if !has_text && class.is_none() {
            return Err("expected `prompt`, `messages`, `body`, or at least a `class`".into());
        }
        let caller = caller(&line)?;
        let usage = line.outcome.as_ref().and_then(|outcome| outcome.usage.as_ref());
        let tokens_in = line.tokens_in.or(usage.map(|usage| usage.prompt_tokens));
        let mut features = Features::read(&request);
        if let Some(facts) = line.features.filter(|_| is_recorded) {
            features = facts.features(features);
        }
        features.tokens_in = tokens_in.unwrap_or(features.tokens_in);
        Ok(Case {
            features,
            caller,
            has_text,
            // What was chosen once is no word on what was right.
            label: line.label.or(line.class.filter(|_| !is_recorded)),
            class,
            score: line.score,
            counted: tokens_in.is_some(),
            tokens_out: line.tokens_out.or(usage.map(|usage| usage.completion_tokens)),
            count: line.count.unwrap_or(1),
            at: line.at.or(line.created_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok())),
            recorded: line.outcome.and_then(|outcome| outcome.cost),
            request,
        })
    }

    /// Whether it may be a turn of a conversation that others of the file belong to: one that is named, or one whose
    /// opening is there to name it. A line that stands for many stands for as many conversations, unless it names one.
    pub fn may_go_on(&self) -> bool {
        self.caller.session.is_some() || self.features.session.is_some() || (self.has_text && self.count == 1)
    }
}

/// The chat request of a line; one without text where it has none.
fn request(line: &Line, text: &[u8]) -> Result<ChatRequest, String> {
    let parsed = match (&line.prompt, &line.messages, &line.body) {
        (Some(prompt), None, None) => ChatRequest::from_prompt(prompt),
        (None, Some(_), None) => ChatRequest::parse(text),
        (None, None, Some(body)) => ChatRequest::parse(body.get().as_bytes()),
        (None, None, None) => ChatRequest::from_prompt(""),
        _ => return Err("expected one of `prompt`, `messages`, `body`".into()),
    };
    parsed.map_err(|error| error.to_string())
}

/// What the line's headers say, as the server reads them, and its own fields over them.
fn caller(line: &Line) -> Result<Caller, String> {
    let headers: Vec<(String, String)> =
        line.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
    let header = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let priority = header("x-waypost-priority").map(|text| {
        limits::priority(&text).ok_or("`x-waypost-priority`: expected high, normal, low, or a number from 0 to 9")
    });
    let tags = header("x-waypost-tags").unwrap_or_default();
    let tags = tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(String::from);
    Ok(Caller {
        class: header("x-waypost-class"),
        policy: header("x-waypost-policy"),
        session: line
            .session
            .as_ref()
            .and_then(Value::as_str)
            .map(String::from)
            .or_else(|| header("x-waypost-session")),
        tier: line.tier.clone().or_else(|| header("x-waypost-tier")),
        tags: tags.chain(line.tags.iter().cloned()).collect(),
        priority: priority.transpose()?,
        key: None,
        path: line.path.as_ref().or(line.url.as_ref()).cloned().unwrap_or_else(|| PATH.into()),
        headers,
        at: line.at,
    })
}

impl Facts {
    /// These facts, with the rest as it was read.
    fn features(self, read: Features) -> Features {
        Features {
            tokens_in: self.tokens_in,
            max_tokens: self.max_tokens,
            messages: self.messages,
            user_turns: self.user_turns,
            images: self.images,
            choices: self.choices.max(1),
            tools: self.tools,
            json_schema: self.json_schema,
            tool_result: self.tool_result,
            stream: self.stream,
            session: self.session,
            ..read
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_requests_batches_and_recorded_decisions_are_read() {
        let read = |text: &str| Case::parse(text.as_bytes()).unwrap();
        let prompt = read(r#"{"prompt": "hello there", "label": "basic", "count": 3}"#);
        assert!(prompt.has_text && !prompt.counted && prompt.count == 3 && !prompt.may_go_on());
        assert_eq!((prompt.class.as_deref(), prompt.label.as_deref()), (Some("basic"), Some("basic")));
        let whole = read(
            r#"{"model": "x", "messages": [{"role": "user", "content": "a"}], "max_tokens": 5, "tokens_in": 7, "user": "u",
                "headers": {"X-Team": "law", "x-waypost-tags": "a, b"}, "tier": "gold", "at": "2026-01-02T03:04:05Z"}"#,
        );
        assert_eq!((whole.features.tokens_in, whole.features.max_tokens, whole.counted), (7, Some(5), true));
        assert_eq!(whole.caller.tags, ["a", "b"]);
        assert!(whole.caller.headers.contains(&("x-team".into(), "law".into())) && whole.may_go_on());
        let batch = read(
            r#"{"custom_id": "1", "method": "POST", "url": "/v1/x", "body": {"messages": [{"role": "user", "content": "a"}]}}"#,
        );
        assert_eq!((batch.caller.path.as_str(), batch.has_text), ("/v1/x", true));
        let recorded = read(
            r#"{"id": "dec_1", "created_ms": 1767225600000, "class": "code", "features": {"tokens_in": 9, "tools": 2},
                "outcome": {"usage": {"prompt_tokens": 11, "completion_tokens": 4}, "cost": 0.25}}"#,
        );
        assert_eq!((recorded.class.as_deref(), recorded.label), (Some("code"), None));
        assert_eq!((recorded.features.tokens_in, recorded.features.tools, recorded.tokens_out), (11, 2, Some(4)));
        assert_eq!(recorded.recorded, Some(Money::from_dollars(0.25)));
        assert_eq!(recorded.at.unwrap().to_string(), "2026-01-01T00:00:00Z");
    }

    #[test]
    fn what_cannot_be_simulated_says_why() {
        for (text, word) in [
            ("[1]", "no JSON object"),
            ("{}", "expected `prompt`"),
            (r#"{"prompt": "a", "messages": []}"#, "expected one of"),
            (r#"{"prompt": "a", "count": 0}"#, "at least 1"),
            (r#"{"prompt": "a", "score": {"m": 7}}"#, "0 to 1"),
            (r#"{"messages": []}"#, "empty"),
        ] {
            let problem = Case::parse(text.as_bytes()).err().unwrap();
            assert!(problem.contains(word), "{text}: {problem}");
        }
    }
}
