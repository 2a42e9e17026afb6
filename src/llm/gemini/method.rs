//! The methods of a model, which a path names after its colon.

use crate::domain::text_enum::text_enum;

text_enum! {
    /// What is asked of a model.
    pub enum GeminiMethod {
        GenerateContent = "generateContent",
        /// Events with `alt=sse`, else one JSON array.
        StreamGenerateContent = "streamGenerateContent",
        /// Costs nothing.
        CountTokens = "countTokens",
        EmbedContent = "embedContent",
        BatchEmbedContents = "batchEmbedContents",
    }
}

impl GeminiMethod {
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
