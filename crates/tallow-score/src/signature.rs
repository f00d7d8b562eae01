//! The options of a score in one line, which show whether two scores can be compared.

use std::fmt;

use serde::{Serialize, Serializer};

/// The options under which a score was computed, in sacreBLEU's form, with the same fields, order and spelling. Only
/// the version differs: it names this program (`tallow-0.1.0`), because sacreBLEU did not compute the score.
///
/// `Display` and `Serialize` give the full form, such as
/// `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:tallow-0.1.0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    fields: Vec<Field>,
}

/// One field of a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    name: &'static str,
    short_name: &'static str,
    value: String,
}

impl Field {
    pub(crate) fn new(name: &'static str, short_name: &'static str, value: impl ToString) -> Self {
        Self {
            name,
            short_name,
            value: value.to_string(),
        }
    }
}

/// The spelling of a switch in signatures.
pub(crate) fn yes_no(switch: bool) -> &'static str {
    if switch { "yes" } else { "no" }
}

impl Signature {
    /// A signature of the number of references, the metric's own `options`, and the version.
    pub(crate) fn new(reference_count: usize, options: Vec<Field>) -> Self {
        let mut fields = vec![Field::new("nrefs", "#", reference_count)];
        fields.extend(options);
        fields.push(Field::new(
            "version",
            "v",
            concat!("tallow-", env!("CARGO_PKG_VERSION")),
        ));
        Self { fields }
    }

    /// The empty signature of a metric without options.
    pub(crate) fn none() -> Self {
        Self { fields: Vec::new() }
    }

    /// The same signature with the options of a resampling after the number of references, as in sacreBLEU's.
    pub(crate) fn with_resampling(mut self, options: Vec<Field>) -> Self {
        let place = self.fields.len().min(1);
        self.fields.splice(place..place, options);
        self
    }

    /// Whether the signature is empty, because the metric has no options.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The names and values of the fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.fields.iter().map(|field| (field.name, field.value.as_str()))
    }

    /// The form with abbreviated names, such as `#:1|c:mixed|e:no|tok:13a|s:exp|v:tallow-0.1.0`.
    pub fn short(&self) -> String {
        let fields: Vec<String> = self
            .fields
            .iter()
            .map(|field| format!("{}:{}", field.short_name, field.value))
            .collect();
        fields.join("|")
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.fields().enumerate() {
            let separator = if index > 0 { "|" } else { "" };
            write!(formatter, "{separator}{name}:{value}")?;
        }
        Ok(())
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
