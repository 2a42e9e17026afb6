//! Why a request can't be put into another format.

use std::borrow::Cow;

/// A request that can't be converted: 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The request breaks the rules of its own format.
    #[error("{} {problem}", subject(field))]
    Invalid {
        /// The field's path, such as `messages[2].content`; empty for the body itself.
        field: String,
        /// What would be right, as the rest of a sentence: `must be a string or an array`.
        problem: Cow<'static, str>,
    },
    /// The target has nothing that means the same, and the answer would mean something else without it.
    #[error("{} {problem}", subject(field))]
    Unsupported {
        /// The field's path.
        field: String,
        /// Why, and what to do, as the rest of a sentence: `is not supported by Anthropic's API; ...`.
        problem: Cow<'static, str>,
    },
}

impl ConvertError {
    /// The request breaks the rules of its own format.
    pub fn invalid(field: impl ToString, problem: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid { field: field.to_string(), problem: problem.into() }
    }

    /// The target has nothing that means the same.
    pub fn unsupported(field: impl ToString, problem: impl Into<Cow<'static, str>>) -> Self {
        Self::Unsupported { field: field.to_string(), problem: problem.into() }
    }

    /// The same about the field by another name.
    pub fn rename(self, name: impl Fn(&str) -> &str) -> Self {
        match self {
            Self::Invalid { field, problem } => {
                Self::Invalid { field: name(&field).to_owned(), problem }
            }
            Self::Unsupported { field, problem } => {
                Self::Unsupported { field: name(&field).to_owned(), problem }
            }
        }
    }

    /// The field that it is about; empty for the body itself.
    pub fn field(&self) -> &str {
        match self {
            Self::Invalid { field, .. } | Self::Unsupported { field, .. } => field,
        }
    }
}

/// The subject of a sentence about a field.
fn subject(field: &str) -> Cow<'static, str> {
    if field.is_empty() { "The request body".into() } else { format!("'{field}'").into() }
}

/// The fields that are left out on the way to a target, for the header `x-tollgate-dropped`.
#[derive(Debug, Default)]
pub struct Dropped {
    fields: Vec<String>,
    /// Nothing may be left out.
    is_strict: bool,
}

impl Dropped {
    /// None so far.
    pub fn new(is_strict: bool) -> Self {
        Self { fields: Vec::new(), is_strict }
    }

    /// Leaves a field out that changes nothing of what the answer means; an error where that is not
    /// allowed.
    pub fn drop(&mut self, field: &str) -> Result<(), ConvertError> {
        if self.is_strict {
            let problem = "can't be sent to this model's provider; leave it out, or do without \
                           'x-tollgate-strict'";
            return Err(ConvertError::unsupported(field, problem));
        }
        if !self.fields.iter().any(|known| known == field) {
            self.fields.push(field.to_owned());
        }
        Ok(())
    }

    /// The fields, each once, in the order in which they were left out.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }
}
