//! A JSON object put together field by field, whose values keep the bytes they came with: a tool's schema, a call's
//! arguments. What a dialect sends is made of these.

use bytes::Bytes;
use indexmap::IndexMap;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// A JSON object; its fields come out in the order they were put in.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Object(IndexMap<&'static str, Box<RawValue>>);

impl Object {
    /// With one more field, or another value of it.
    pub fn with(mut self, name: &'static str, value: impl Serialize) -> Self {
        self.put(name, value);
        self
    }

    /// Puts a field.
    pub fn put(&mut self, name: &'static str, value: impl Serialize) {
        self.0.insert(name, to_raw_value(&value).expect("strings, numbers and JSON serialise"));
    }

    /// Puts a field where there is a value for it.
    pub fn put_some(&mut self, name: &'static str, value: Option<impl Serialize>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The object's JSON.
    pub fn bytes(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(&self.0).expect("raw JSON serialises"))
    }
}

/// Text that is a JSON object, byte for byte; `None` for any other.
pub fn object(text: &str) -> Option<&RawValue> {
    serde_json::from_str::<&RawValue>(text).ok().filter(|raw| raw.get().starts_with('{'))
}
