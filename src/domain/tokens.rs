//! Tokens, by kind. `kinds!` is the one list of kinds.

use serde::{Deserialize, Serialize};

/// How many kinds there are.
pub const KINDS: usize = TokenUsage::NAMES.len();

macro_rules! kinds {
    ($($(#[$doc:meta])+ $name:ident;)+) => {
        /// The tokens of one answer, by kind, as the provider reported them; `None` is "not reported".
        ///
        /// `cached_input`, `cache_write` and `audio_input` are parts of `input`; `reasoning` and
        /// `audio_output` are parts of `output`. Providers need not keep to that: subtract with
        /// saturation.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct TokenUsage {
            $($(#[$doc])+ pub $name: Option<u64>,)+
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
    };
}

// The journal knows a kind by its place: new kinds come last.
kinds! {
    /// Tokens read: prompts, tools, images, audio.
    input;
    /// Those of the input that came from the provider's cache.
    cached_input;
    /// Those of the input that were written to the provider's cache.
    cache_write;
    /// Tokens generated, including those that the caller does not see.
    output;
    /// Those of the output that were spent on reasoning.
    reasoning;
    /// Input tokens that were audio.
    audio_input;
    /// Output tokens that were audio.
    audio_output;
}
