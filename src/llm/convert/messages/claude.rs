//! What a model of Anthropic's takes, by the version in its name: names of later models need no change here.

/// The version in a model's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claude<'m> {
    family: &'m str,
    /// `None` for a name without one, such as that of a deployment: treated as the newest.
    version: Option<(u32, u32)>,
}

impl<'m> Claude<'m> {
    /// Reads a name such as `claude-opus-4-8`, `claude-3-5-sonnet-20241022`,
    /// `us.anthropic.claude-sonnet-4-5-20250929-v1:0` or `claude-opus-4-1@20250805`.
    pub(super) fn of(model: &'m str) -> Self {
        let after = model.find("claude").and_then(|at| model.get(at..)).unwrap_or_default();
        let words = || after.split(|character: char| !character.is_ascii_alphanumeric()).skip(1);
        let is_word = |word: &&str| word.len() > 2 && word.bytes().all(|b| b.is_ascii_alphabetic());
        let family = words().find(is_word).unwrap_or_default();
        // Longer numbers are dates.
        let number = |word: &str| word.parse().ok().filter(|_| word.len() <= 2);
        let mut numbers =
            words().skip_while(|word| number(word).is_none()).map_while(number).fuse();
        let version = numbers.next().map(|major| (major, numbers.next().unwrap_or(0)));
        Self { family, version }
    }

    /// Takes `thinking: {"type": "adaptive"}` with an effort: from 4.6 (Anthropic, "Adaptive thinking").
    pub(super) fn takes_adaptive_thinking(self) -> bool {
        self.version.is_none_or(|version| version >= (4, 6))
    }

    /// Takes `budget_tokens`: until 4.6 (the same page).
    pub(super) fn takes_thinking_budget(self) -> bool {
        self.version.is_some_and(|version| version < (4, 7))
    }

    /// Takes messages with the role `system`: Opus from 4.8, Fable from 5 (Anthropic, "Mid-conversation
    /// system messages").
    pub(super) fn takes_system_messages(self) -> bool {
        let first = match self.family {
            "opus" => (4, 8),
            "fable" => (5, 0),
            _ => return false,
        };
        self.version.is_some_and(|version| version >= first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_a_model_takes() {
        for (model, adaptive, budget, system) in [
            ("claude-3-5-sonnet-20241022", false, true, false),
            ("claude-3-opus-20240229", false, true, false),
            ("claude-opus-4-20250514", false, true, false),
            ("claude-opus-4-1@20250805", false, true, false),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", false, true, false),
            ("anthropic.claude-opus-4-6-v1", true, true, false),
            ("claude-sonnet-4.6", true, true, false),
            ("claude-opus-4-7", true, false, false),
            ("claude-opus-4-8-20260528", true, false, true),
            ("claude-opus-5", true, false, true),
            ("claude-sonnet-5", true, false, false),
            ("claude-fable-5", true, false, true),
            ("claude-mythos-preview", true, false, false),
            ("my-deployment", true, false, false),
            ("", true, false, false),
        ] {
            let claude = Claude::of(model);
            let taken = (
                claude.takes_adaptive_thinking(),
                claude.takes_thinking_budget(),
                claude.takes_system_messages(),
            );
            assert_eq!(taken, (adaptive, budget, system), "{model}");
        }
    }
}
