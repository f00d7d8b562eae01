//! The names of a struct's fields, taken from its own `Deserialize`, so that no separate list of keys can become
//! outdated.

use serde::de::{self, Deserialize, Deserializer, Visitor};
use std::fmt;

/// The keys of a config section.
pub fn keys_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    match T::deserialize(Probe) {
        Err(Found(keys)) => keys,
        Ok(_) => &[],
    }
}

/// A deserializer that only records which fields are requested.
struct Probe;

/// The recorded fields, returned as an error.
#[derive(Debug)]
struct Found(&'static [&'static str]);

impl fmt::Display for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{:?}", self.0)
    }
}

impl std::error::Error for Found {}

impl de::Error for Found {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Found(&[])
    }
}

impl<'de> Deserializer<'de> for Probe {
    type Error = Found;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Found> {
        Err(Found(&[]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Found> {
        Err(Found(fields))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The known key that is closest to a mistyped one, if one is close enough.
pub fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |known: &&&str| strsim::damerau_levenshtein(key, known);
    let nearest = known.iter().min_by_key(distance)?;
    // One slip for every three letters is allowed. With more, all short words would be alike.
    (distance(&nearest) <= key.chars().count().div_ceil(3)).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_the_struct() {
        let keys = keys_of::<tallow_model::ModelConfig>();
        assert!(
            keys.contains(&"d_model") && keys.contains(&"scale_attention"),
            "{keys:?}"
        );
        assert!(keys_of::<String>().is_empty());
    }

    #[test]
    fn nearest_key() {
        let known = ["learning_rate", "warmup_updates", "workers"];
        assert_eq!(nearest("learning_rte", &known), Some("learning_rate"));
        assert_eq!(nearest("worker", &known), Some("workers"));
        assert_eq!(nearest("banana", &known), None);
        assert_eq!(nearest("lr", &["tie", "dev"]), None);
        assert_eq!(nearest("sed", &["name", "seed"]), Some("seed"));
    }
}
