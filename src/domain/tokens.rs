//! Tokens, by kind. `kinds!` is the one list of kinds: the counts of an answer, the journal, the ledger,
//! its roll-ups, the metrics and the API's figures are made from it. Which of an answer's fields is a
//! kind's count is in `llm`, and what a kind costs in [`pricing`](super::pricing).

use serde::{Deserialize, Serialize};

/// How many kinds there are.
pub const KINDS: usize = TokenUsage::NAMES.len();

macro_rules! kinds {
    ($($(#[$doc:meta])+ $name:ident $column:ident;)+) => {
        /// The tokens of one answer, by kind, as the provider reported them; `None` is "not reported".
        ///
        /// `cached_input`, `cache_write` and `audio_input` are parts of `input`; `cache_write_1h` is a
        /// part of `cache_write`; `reasoning` and `audio_output` are parts of `output`. Providers need
        /// not keep to that: subtract with saturation.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct TokenUsage {
            $($(#[$doc])+ #[serde(skip_serializing_if = "Option::is_none")] pub $name: Option<u64>,)+
        }

        impl TokenUsage {
            /// The kinds' names, in the order of the list.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),+];

            /// The count of each kind, in the order of the list.
            pub fn counts(&self) -> [Option<u64>; KINDS] {
                [$(self.$name),+]
            }

            /// The usage with these counts, in the order of the list.
            pub fn from_counts(counts: [Option<u64>; KINDS]) -> Self {
                let [$($name),+] = counts;
                Self { $($name),+ }
            }
        }

        /// A value for each kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct ByKind<T> {
            $(pub $name: T,)+
        }

        impl<T: Copy> ByKind<T> {
            /// The same value for every kind.
            pub const fn all(value: T) -> Self {
                Self { $($name: value),+ }
            }

            /// The values, in the order of the list.
            pub fn values(&self) -> [T; KINDS] {
                [$(self.$name),+]
            }
        }

        impl From<&TokenUsage> for ByKind<u64> {
            /// The counts; of what was not reported, zero.
            fn from(usage: &TokenUsage) -> Self {
                Self { $($name: usage.$name.unwrap_or(0)),+ }
            }
        }

        /// The tokens of one attempt by kind, as far as they are known.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
        #[schema(as = RequestUsage)]
        pub struct TokenCounts {
            $($(#[$doc])+ pub $column: Option<i64>,)+
        }

        impl From<TokenUsage> for TokenCounts {
            fn from(usage: TokenUsage) -> Self {
                let count = |tokens| i64::try_from(tokens).unwrap_or(i64::MAX);
                Self { $($column: usage.$name.map(count)),+ }
            }
        }

        /// Sums of tokens by kind.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
        pub struct TokenTotals {
            $($(#[$doc])+ pub $column: i64,)+
        }

        impl TokenTotals {
            /// The names of the fields, which the database's columns have too, in the order of the list.
            pub const COLUMNS: [&'static str; KINDS] = [$(stringify!($column)),+];

            /// The sum of each kind, in the order of the list.
            pub fn sums(&self) -> [i64; KINDS] {
                [$(self.$column),+]
            }
        }

        impl From<[i64; KINDS]> for TokenTotals {
            fn from(sums: [i64; KINDS]) -> Self {
                let [$($column),+] = sums;
                Self { $($column),+ }
            }
        }
    };
}

// The journal knows a kind by its place: new kinds come last. The ledger has it under its first name;
// `usage_rollups` needs a column of the second one.
kinds! {
    /// Tokens read: prompts, tools, images, audio.
    input input_tokens;
    /// Input tokens that came from the provider's cache.
    cached_input cached_input_tokens;
    /// Input tokens that were written to the provider's cache.
    cache_write cache_write_tokens;
    /// Tokens generated, including those that the caller does not see.
    output output_tokens;
    /// Output tokens that were used for reasoning.
    reasoning reasoning_tokens;
    /// Input tokens that were audio.
    audio_input audio_input_tokens;
    /// Output tokens that were audio.
    audio_output audio_output_tokens;
    /// Tokens that were written to the provider's cache for one hour; a part of `cache_write`.
    cache_write_1h cache_write_1h_tokens;
}
