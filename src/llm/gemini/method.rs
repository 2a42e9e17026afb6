//! The methods of a model, which a path names after its colon.

/// What is asked of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GeminiMethod {
    /// `generateContent`
    GenerateContent,
    /// `streamGenerateContent`: events with `alt=sse`, else one JSON array.
    StreamGenerateContent,
    /// `countTokens`, which costs nothing.
    CountTokens,
    /// `embedContent`
    EmbedContent,
    /// `batchEmbedContents`
    BatchEmbedContents,
}

impl GeminiMethod {
    /// All methods.
    pub const ALL: [Self; 5] = [
        Self::GenerateContent,
        Self::StreamGenerateContent,
        Self::CountTokens,
        Self::EmbedContent,
        Self::BatchEmbedContents,
    ];

    /// The name in paths.
    pub fn name(self) -> &'static str {
        match self {
            Self::GenerateContent => "generateContent",
            Self::StreamGenerateContent => "streamGenerateContent",
            Self::CountTokens => "countTokens",
            Self::EmbedContent => "embedContent",
            Self::BatchEmbedContents => "batchEmbedContents",
        }
    }

    /// The method of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// The name of the operation in logs, in metrics and in the ledger.
    pub(in crate::llm) fn label(self) -> &'static str {
        match self {
            Self::GenerateContent => "generate_content",
            Self::StreamGenerateContent => "stream_generate_content",
            Self::CountTokens => "gemini_count_tokens",
            Self::EmbedContent => "embed_content",
            Self::BatchEmbedContents => "batch_embed_contents",
        }
    }

    /// Whether the model writes an answer.
    pub(in crate::llm) fn generates(self) -> bool {
        matches!(self, Self::GenerateContent | Self::StreamGenerateContent)
    }
}
