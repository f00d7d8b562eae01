//! Keys of clients. A file has their hashes only; a key itself is shown once, when it is made.

use crate::Error;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;
use subtle::ConstantTimeEq;
use tallow_data::hexadecimal;

/// The random bytes of a key.
const KEY_BYTES: usize = 32;

/// A client with a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The client's name, for logs.
    pub name: String,
    /// The SHA-256 of its key, in hexadecimal.
    pub sha256: String,
    /// Its requests per minute; 0 sets no limit. Default 0.
    #[serde(default)]
    pub requests_per_minute: u32,
    /// The characters of its requests. Default: `limits.characters`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub characters: Option<usize>,
}

/// A file of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The keys.
    #[serde(default)]
    pub key: Vec<Key>,
}

impl Keys {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or has something else than keys.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let fault = |fault: String| Error::File {
            path: path.to_path_buf(),
            fault,
        };
        let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
        let keys: Self = toml::from_str(&text).map_err(|error| fault(error.to_string()))?;
        for key in &keys.key {
            if bytes_of(&key.sha256).is_none() {
                return Err(fault(format!(
                    "key {:?}: `sha256` is no SHA-256 in hexadecimal",
                    key.name
                )));
            }
        }
        Ok(keys)
    }

    /// The client with a key. The time does not tell how much of a key is right.
    pub fn find(&self, secret: &str) -> Option<&Key> {
        let hash: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        self.key.iter().fold(None, |found, key| {
            let is_it = bytes_of(&key.sha256).is_some_and(|expected| expected.ct_eq(&hash).into());
            if is_it { Some(key) } else { found }
        })
    }
}

impl Key {
    /// A new key for a client, and its secret.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate(name: &str) -> std::io::Result<(Self, String)> {
        let mut bytes = [0; KEY_BYTES];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let secret = BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let key = Self {
            name: name.to_owned(),
            sha256: hexadecimal(&Sha256::digest(secret.as_bytes())),
            requests_per_minute: 0,
            characters: None,
        };
        Ok((key, secret))
    }
}

fn bytes_of(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let is_hexadecimal = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    for (i, byte) in bytes.iter_mut().enumerate().filter(|_| is_hexadecimal) {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    is_hexadecimal.then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_their_secret() {
        let (first, secret) = Key::generate("first").unwrap();
        let (second, other) = Key::generate("second").unwrap();
        assert_ne!(secret, other);
        let keys = Keys {
            key: vec![first, second],
        };
        assert_eq!(keys.find(&secret).unwrap().name, "first");
        assert_eq!(keys.find(&other).unwrap().name, "second");
        assert_eq!(keys.find(""), None);
        assert_eq!(keys.find(&keys.key[0].sha256), None);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        std::fs::write(&path, toml::to_string(&keys).unwrap()).unwrap();
        assert_eq!(Keys::open(&path).unwrap(), keys);
        for (text, told) in [
            ("[[key]]\nname = \"a\"\nsha256 = \"ff\"\n", "no SHA-256"),
            ("[[key]]\nname = \"a\"\n", "missing field `sha256`"),
            ("[[key]]\nname = \"a\"\nsha256 = \"\u{e9}\"\n", "no SHA-256"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Keys::open(&path).unwrap_err().to_string();
            assert!(error.contains("keys.toml") && error.contains(told), "{error}");
        }
    }
}
